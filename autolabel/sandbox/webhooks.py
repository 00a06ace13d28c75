"""The webhooks that Encord sends: that tasks wait at an Agent stage, that one was submitted, that one is complete.

As documented: the envelope; the signature; that an Agent stage's queue is looked at every five minutes, and that each
look that meets a threshold sends a notification with a uid of its own, for as long as tasks wait; that a call which
is not answered within 180 s is sent again, and that any answer but 200 is a failed delivery. Not known of the real
server, and decided here:
- what timed out is sent again at once, twice at most: the same body, so the same uid, signed anew;
- what failed otherwise is not sent again: an Agent stage tells at its next look, the other events are lost;
- a task is submitted when it goes on to the next stage of the list, complete when it comes there, whoever moved it;
- one event a task; the Complete stage's is called task_completed_event, and an absent label hash is null.
Redirects are not followed, and nothing is sent but to this machine.
"""

import asyncio
import hashlib
import hmac
import json
import re
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autolabel.sandbox.faults import DELIVERY, Faults
from autolabel.sandbox.labels import MAIN, find_row, parse_moment
from autolabel.sandbox.store import Changes, Entity, Json, Project, Store, Task, Webhook

STAGES = {"agent_stage": "AGENT", "annotate": "ANNOTATION", "complete": "DONE"}
EVENTS = {
    "agent_stage": "agent_stage_work_available_event",
    "annotate": "task_submitted_event",
    "complete": "task_completed_event",
}
SENDS = 3


@dataclass
class Told:
    """What became of a webhook's calls since the server started; `last` as it stands in the log."""

    deliveries: int = 0
    failed: int = 0
    last: Json | None = None


class Webhooks:
    """Those that are set up, and their calls. They live in the log, their secrets in a folder beside it."""

    def __init__(self, store: Store, secrets: Path, faults: Faults) -> None:
        self._store, self._secrets, self._faults = store, secrets, faults
        self._told: dict[str, Told] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._calls: set[asyncio.Task[None]] = set()  # asyncio itself holds no task

    def start(self) -> None:
        """From now on calls are sent. Within the event loop's thread, as everything here."""
        self._store.on_commit = self._on_commit
        for hook in self._live():
            self._look_out(hook)

    # ---------------------------------------------------------------------------------- setting up

    def add(self, *, secret: str, project: str, kind: str, stage: str | None = None, **wanted: Any) -> Json:
        """A webhook of the named stage, or of the project's first one of its kind. Answers its id."""
        if kind not in STAGES:
            raise ValueError(f"no webhook of kind {kind}; there are {', '.join(STAGES)}")
        if not secret:
            raise ValueError("a webhook needs a secret")
        place = _stage(self._store.get(Project, project), kind, stage)
        hook = Webhook(str(uuid.uuid4()), project_hash=project, kind=kind, stage_uuid=place, **wanted)
        _require_loopback(hook.url)
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        path = self._secrets / hook.id
        path.touch(mode=0o600)
        path.write_text(secret)
        self._store.commit("webhook_added", "admin", hook)
        self._look_out(hook)
        return {"id": hook.id}

    def listed(self) -> list[Json]:
        return [asdict(hook) | asdict(self._told.get(hook.id, Told())) for hook in self._live()]

    def remove(self, hook_id: str) -> None:
        hook = self._store.get(Webhook, hook_id)
        self._store.commit("webhook_removed", "admin", replace(hook, is_removed=True))
        (self._secrets / hook_id).unlink(missing_ok=True)
        if look := self._looks.pop(hook_id, None):
            look.cancel()

    def _live(self) -> list[Webhook]:
        return [hook for hook in self._store.table(Webhook).values() if not hook.is_removed]

    # -------------------------------------------------------------------------------------- events

    def _look_out(self, hook: Webhook) -> None:
        if hook.kind == "agent_stage":
            self._looks[hook.id] = asyncio.create_task(self._look_again_and_again(hook))

    async def _look_again_and_again(self, hook: Webhook) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            due_s = max(due_s + hook.every_s, clock())
            await asyncio.sleep(due_s - clock())
            waiting = [task for task in self._store.table(Task).values() if task.stage_uuid == hook.stage_uuid]
            if reason := _reason(hook, waiting, datetime.now(UTC)):
                about = {"stage_uuid": hook.stage_uuid, "pending_count": len(waiting), "reason": reason}
                self._tell(hook, about)

    def _on_commit(self, changes: Changes) -> None:
        for before, after in changes:
            for hook in self._live():
                if isinstance(after, Task) and self._concerns(hook, before, after):
                    row = find_row(self._store, self._store.get(Project, after.project_hash), after.data_hash, MAIN)
                    self._tell(hook, {"data_hashes": after.data_hash, "label_hashes": row and row.label_hash})

    def _concerns(self, hook: Webhook, before: Entity | None, after: Task) -> bool:
        if not isinstance(before, Task) or before.stage_uuid == after.stage_uuid:
            return False
        if hook.kind == "complete":
            return after.stage_uuid == hook.stage_uuid
        stages = [stage["uuid"] for stage in self._store.get(Project, after.project_hash).stages]
        goes_on = stages.index(after.stage_uuid) == stages.index(before.stage_uuid) + 1
        return hook.kind == "annotate" and before.stage_uuid == hook.stage_uuid and goes_on

    def _tell(self, hook: Webhook, about: Json) -> None:
        content: Json = {
            "uid": str(uuid.uuid4()),
            "version": 1,
            "source": "Encord",
            "event_type": EVENTS[hook.kind],
            "event_created_timestamp": datetime.now(UTC).isoformat(),
            "payload": {"project_hash": hook.project_hash, **about},
        }
        secret = (self._secrets / hook.id).read_text()
        call = asyncio.create_task(self._deliver(hook, secret, content["uid"], json.dumps(content).encode()))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    # -------------------------------------------------------------------------------------- calls

    async def _deliver(self, hook: Webhook, secret: str, uid: str, body: bytes) -> None:
        """Send one event until it is answered, under the fault that it meets."""
        traits = {"method": DELIVERY, "path": urlsplit(hook.url).path, "query_type": EVENTS[hook.kind]}
        fault = self._faults.meet({**traits, "query_method": None})
        kind, delay_s = (fault.kind, fault.delay_s) if fault else ("", 0.0)
        if kind == "skip":
            self._note(hook, uid, "skipped", None, 0.0)
            return
        for _ in range(SENDS):
            headers = signed(secret, body, int(time.time()))
            await asyncio.sleep(delay_s)
            sent = body[:-1] + b" " if kind == "corrupt" else body
            if kind == "duplicate":
                await self._call(hook, uid, headers, sent)
            if await self._call(hook, uid, headers, sent) != "timed_out":
                break

    async def _call(self, hook: Webhook, uid: str, headers: dict[str, str], body: bytes) -> str:
        """What came of one request."""
        began_s, status = time.monotonic(), None
        try:
            async with asyncio.timeout(hook.timeout_s):
                status = await _post(hook.url, headers, body)
            outcome = "delivered" if status == 200 else "refused"
        except TimeoutError:
            outcome = "timed_out"
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            outcome = "unreachable"
        self._note(hook, uid, outcome, status, time.monotonic() - began_s)
        return outcome

    def _note(self, hook: Webhook, uid: str, outcome: str, status: int | None, took_s: float) -> None:
        entry: Json = {
            "kind": "webhook",
            "at": self._store.now(),
            "webhook": hook.id,
            "event_type": EVENTS[hook.kind],
            "uid": uid,
            "outcome": outcome,
            "status": status,
            "duration_ms": round(took_s * 1000, 1),
        }
        self._store.log.append(entry)
        told = self._told.setdefault(hook.id, Told())
        told.deliveries += 1
        told.failed += outcome != "delivered"
        told.last = entry


def _stage(project: Project, kind: str, wanted: str | None) -> str:
    """The uuid of the stage that is named by title or uuid, else of the first one of that kind."""
    for stage in project.stages:
        if stage["stageType"] == STAGES[kind] and wanted in (None, stage["title"], stage["uuid"]):
            return str(stage["uuid"])
    raise ValueError(f"the project has no such stage of kind {STAGES[kind]}")


def _require_loopback(url: str) -> None:
    """Raises ValueError for what is no http address of this machine in digits."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not ip_address(parts.hostname or "").is_loopback or not parts.port:
        raise ValueError("webhooks go to addresses like http://127.0.0.1:8765/webhooks/encord only")


def _reason(hook: Webhook, waiting: list[Task], now: datetime) -> str | None:
    """The threshold that is met, if one is. A task's `updated_at` is when it came to its Agent stage."""
    if not waiting:
        return None
    if len(waiting) >= hook.batch_size:
        return "batch_size_reached"
    longest_s = max((now - parse_moment(task.updated_at)).total_seconds() for task in waiting)
    return "max_wait_elapsed" if hook.max_wait_s is not None and longest_s > hook.max_wait_s else None


def signed(secret: str, body: bytes, at_s: int) -> dict[str, str]:
    """The headers that say who sends this body, and when."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return {"X-Encord-Timestamp": str(at_s), "X-Encord-Signature": mac.hexdigest()}


async def _post(url: str, headers: dict[str, str], body: bytes) -> int:
    """The status of the answer; what it says beyond its head is left unread. Raises where it is none, or no HTTP."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fixed = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        head = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (fixed | headers).items())]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        found = re.match(rb"HTTP/1\.\d (\d{3})\b", await reader.readuntil(b"\r\n\r\n"))
        if not found:
            raise ValueError("the answer is not HTTP")
        return int(found[1])
    finally:
        writer.close()
