"""Pushes to every destination while somebody edits the same rows: `run(seed, amount)` gives what went wrong.

The editor is seeded, the moments at which its requests arrive are not. It keeps out of rows whose task sits at an
Agent stage (assumption A2), and does everything else at any moment: a quarter of it on rows that a push has in hand.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

import requests

import history
from autolabel.core.rows import Destination
from autolabel.database import Database
from autolabel.ledger import Ledger
from autolabel.plan import LOOK_AGAIN_S
from autolabel.remote.sink import EncordSink
from autolabel.sandbox import running
from autolabel.states import Job, State
from quick_pushes import Desk

Json = dict[str, Any]
ROWS = 40
PUSHES: tuple[Json, ...] = (
    {"destination": Destination.AGENT_STAGE, "limit": 8},
    {"destination": Destination.AGENT_STAGE, "pull_from": "Annotate", "limit": 8},
    {"destination": Destination.MAIN, "limit": 8},
    {"destination": Destination.BRANCH, "limit": 8},
    {"destination": Destination.MAIN, "include_assigned": True, "limit": 8},
)
IN_HAND_SHARE = 0.25
ACTS = {
    "draw": 4,
    "edit": 4,
    "autosave": 3,
    "delete": 2,
    "empty": 1,
    "classify": 1,
    "submit": 1,
    "reopen": 2,
    "skip": 1,
}


def run(seed: int, amount: int, sink: type[EncordSink] = EncordSink) -> list[str]:
    """Push and edit until people have done at least `amount` things; what they lost, and what we claim wrongly."""
    violations: list[str] = []
    edits = session = 0
    with TemporaryDirectory() as folder:
        with running(Path(folder) / "state", "demo-agent", ROWS):
            pass
        while edits < amount:
            home = Path(folder) / str(session)
            copytree(Path(folder) / "state", home / "sandbox")
            done, found = _session(random.Random(f"{seed}/{session}"), home, sink)
            violations += [f"session {session}: {text}" for text in found]
            edits, session = edits + done, session + 1
    return violations


def _session(dice: random.Random, home: Path, sink: type[EncordSink]) -> tuple[int, list[str]]:
    with running(home / "sandbox") as served:
        (project_hash,) = served["projects"].values()
        desk = Desk(served["domain"], served["ssh_key_file"], project_hash, home, sink)
        _free_some(desk, dice)
        with _editing(Editor(served["domain"], project_hash, desk, dice)) as editor:
            for options in dice.sample(PUSHES, len(PUSHES)):
                desk.push(**options)
        desk.ahead_s = LOOK_AGAIN_S + 1
        for options in PUSHES[1:4]:
            desk.push(**options)
        people = People()
        for event in requests.get(f"{served['domain']}/admin/log", timeout=30).json():
            people.see(event)
        with closing(Ledger(Database(home / "ledger.sqlite"), time.time)) as ledger:
            claims = list(wrong_claims(people, desk, ledger))
    return editor.count, [*people.violations, *claims, *history.check_folder(home, desk.ahead_s)]


def _free_some(desk: Desk, dice: random.Random) -> None:
    """Two thirds of the tasks wait for people, nobody has them."""
    agent = desk.project.workflow.stages[0]
    rows = [row for row in desk.source.rows() if row.label_hash is None]
    desk.sink.proceed(dice.sample(rows, len(rows) * 2 // 3), agent.uuid, agent.pathways[0].uuid)


@dataclass
class Editor:
    """A person with many tabs. `tabs`: what each showed when it was opened; None for a row that was not there yet."""

    domain: str
    project_hash: str
    desk: Desk
    dice: random.Random
    count: int = 0
    tabs: dict[str, list[Json | None]] = field(default_factory=dict)

    def edit_until(self, stopped: threading.Event) -> None:
        everything = [row.data_hash for row in self.desk.source.rows()]
        while not stopped.is_set():
            in_hand = self.desk.in_hand
            others = [key for key in everything if key not in in_hand and key in self.tabs] or everything[:1]
            chosen = self.dice.choice(in_hand) if in_hand and self.dice.random() < IN_HAND_SHARE else None
            self._touch(chosen or self.dice.choice(others))
            stopped.wait(self.dice.uniform(0, 0.002))

    def _touch(self, data_hash: str) -> None:
        """Open a row and do something there; some of it is refused, as the row may have moved on."""
        tabs = self.tabs.setdefault(data_hash, [None])
        shown = self._act(data_hash, "open")
        for action in self.dice.choices(list(ACTS), list(ACTS.values()), k=self.dice.randint(1, 5)):
            if shown is None:
                return
            tabs.append(shown)
            shown = self._act(data_hash, *self._what(action, shown, tabs)) or shown

    def _what(self, action: str, shown: Json, tabs: list[Json | None]) -> tuple[str, Json]:
        """What can be done to a row as it is shown, and with which details."""
        box: Json = {"class": "blue syringe", "box_norm": self._box()}
        objects = [item["objectHash"] for unit in shown["labels"].values() for item in unit["objects"]]
        if action == "draw" or (action in ("edit", "delete") and not objects):
            return "draw", box
        if action in ("edit", "delete"):
            return action, box | {"object_hash": self.dice.choice(objects)}
        if action == "autosave":
            return action, {"copy": self.dice.choice(tabs)} | (box if self.dice.random() < 0.5 else {})
        return action, {}

    def _box(self) -> list[float]:
        return [round(self.dice.uniform(0.0, 0.5), 4) for _ in range(2)] + [0.25, 0.25]

    def _act(self, data_hash: str, action: str, wanted: Json | None = None) -> Json | None:
        """The row as it stands then, where it is told; None where the person is refused."""
        person = {"action": action, "project": self.project_hash, "data_hash": data_hash, "keeps_out": True}
        answer = requests.post(f"{self.domain}/admin/human", json=person | (wanted or {}), timeout=30)
        if answer.status_code != 200:
            return None
        self.count += action != "open"
        return next((entity for entity in answer.json()["changed"] if "labels" in entity), None)


@contextmanager
def _editing(editor: Editor) -> Iterator[Editor]:
    stopped = threading.Event()
    thread = threading.Thread(target=editor.edit_until, args=[stopped])
    thread.start()
    try:
        yield editor
    finally:
        stopped.set()
        thread.join()


@dataclass
class People:
    """What people have made and removed on `main`, replayed from the log; and what a machine did that it must not."""

    rows: dict[str, Json] = field(default_factory=dict)
    removed: dict[str, set[str]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    agent_stages: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)

    def see(self, event: Json) -> None:
        for kind, after in event.get("put", ()):
            if kind == "Task":
                self.stages[after["data_hash"]] = after["stage_uuid"]
            elif kind == "Project":
                self.agent_stages |= {s["uuid"] for s in after["stages"] if s["stageType"] == "AGENT"}
            elif kind == "LabelRow" and after["branch"] == "main":
                if event["event"].startswith("human_"):
                    self._take_down(after)
                else:
                    self._hold_against(after, f"{event['event']}, log line {event['n']}")
                self.rows[after["data_hash"]] = after

    def _take_down(self, after: Json) -> None:
        old, new = objects_of(self.rows.get(after["data_hash"])), objects_of(after)
        removed = self.removed.setdefault(after["data_hash"], set())
        removed |= old.keys() - new.keys()
        removed -= new.keys()

    def _hold_against(self, after: Json, what: str) -> None:
        key = after["data_hash"]
        before = self.rows.get(key)
        old, new = objects_of(before), objects_of(after)
        lost = [name for name, item in old.items() if is_theirs(item) and new.get(name) != item]
        back = new.keys() & self.removed.get(key, set())
        self.violations += [f"{what}: changed {name}, somebody's object, in row {key}" for name in lost]
        self.violations += [f"{what}: brought back {name}, which somebody removed from row {key}" for name in back]
        if before and before["classification_answers"] != after["classification_answers"]:
            self.violations.append(f"{what}: changed somebody's answers in row {key}")
        if not what.startswith("labels_copied") and self.stages[key] not in self.agent_stages:
            self.violations.append(f"{what}: wrote row {key} while people could open it")


def objects_of(row: Json | None) -> dict[str, Json]:
    return {item["objectHash"]: item for unit in (row["labels"] if row else {}).values() for item in unit["objects"]}


def is_theirs(item: Json) -> bool:
    return bool(item["manualAnnotation"]) or item["lastEditedBy"] != item["createdBy"]


def wrong_claims(people: People, desk: Desk, ledger: Ledger) -> Iterator[str]:
    """Rows that are done though nothing of ours stands there, or though something is missing that nobody removed."""
    landed = ledger.landed(desk.project.project_hash)
    for destination in (Destination.AGENT_STAGE, Destination.MAIN):
        job = Job(desk.project.project_hash, desk.recipe.id, destination)
        for key, record in ledger.records(job).items():
            if record.state == State.DONE and key in landed:
                ours, here = landed[key].objects, objects_of(people.rows.get(key)).keys()
                missing = ours - here - people.removed.get(key, set())
                if missing:
                    yield f"row {key} is done, but {sorted(missing)} are not there and nobody removed them"
                if not ours & here:
                    yield f"row {key} is done, but nothing of ours stands there any more"
