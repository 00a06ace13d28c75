"""Webhooks as their senders sign them, written apart from the code that verifies them, and a receiver for them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from autolabel.database import Database
from autolabel.schema import INBOX
from autolabel.service.app import PATIENCE, Patience, make_app
from autolabel.service.calls import Calls
from autolabel.service.secrets import KeyRing, Secrets
from autolabel.service.signatures import ENCORD, STANDARD
from autolabel.wakes import Wakes

PROJECT, STAGE = "0b8d5f7e-1f0c-4b58-9d0e-2f6f5f0b1c11", "5a1c7a52-83a1-4a3e-9a7e-2f6f5f0b1c22"
SECRET, OTHER_SECRET = "encord-webhook-secret-of-a-test", "another-webhook-secret-of-a-test"
BUCKET_SECRET = "whsec_" + base64.b64encode(b"a bucket secret of a test").decode()


def task_ready(project: str = PROJECT, stage: str = STAGE) -> bytes:
    """Encord's notification that tasks wait at an Agent stage; no two are the same."""
    payload = {"project_hash": project, "stage_uuid": stage, "pending_count": 3, "reason": "batch_size_reached"}
    return event("agent_stage_work_available_event", payload)


def bucket_event(dataset: str = STAGE) -> bytes:
    return json.dumps({"type": "upload", "data": {"dataset_hash": dataset}}).encode()


def event(event_type: str, payload: dict[str, object]) -> bytes:
    envelope = {"uid": str(uuid.uuid4()), "version": 1, "source": "Encord", "event_type": event_type}
    stamp = {"event_created_timestamp": "2026-11-21T08:00:00+00:00"}
    return json.dumps({**envelope, **stamp, "payload": payload}).encode()


def signed(body: bytes, secret: str = SECRET, at_s: float | None = None) -> dict[str, str]:
    """The headers with which Encord posts a body."""
    stamp = str(int(time.time() if at_s is None else at_s))
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return {"X-Encord-Timestamp": stamp, "X-Encord-Signature": mac.hexdigest()}


def standard_signed(body: bytes, *secrets: str, message: str = "msg_1", at_s: float | None = None) -> dict[str, str]:
    """The headers of the Standard Webhooks specification, with a signature of each secret."""
    stamp = str(int(time.time() if at_s is None else at_s))
    content = f"{message}.{stamp}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets or (BUCKET_SECRET,)]
    macs = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
    together = " ".join(f"v1,{mac}" for mac in macs)
    return {"webhook-id": message, "webhook-timestamp": stamp, "webhook-signature": together}


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def secrets(encord: str | None = SECRET, bucket: str | None = BUCKET_SECRET, file: Path | None = None) -> Secrets:
    """`encord` and `bucket`: as in the environment, `file`: Encord's secrets in a file."""
    return Secrets(
        KeyRing(SecretStr(encord) if encord else None, file, ENCORD),
        KeyRing(SecretStr(bucket) if bucket else None, None, STANDARD),
    )


@dataclass
class Receiver:
    """A receiver in this process, and what it has kept."""

    app: FastAPI
    client: TestClient
    database: Database
    wakes: Wakes
    woken: list[int] = field(default_factory=list)
    calls: Calls = field(default_factory=Calls)

    def post(self, body: bytes, headers: dict[str, str], route: str = "encord") -> tuple[int, str]:
        answer = self.client.post(f"/webhooks/{route}", content=body, headers=headers)
        return answer.status_code, answer.json()["status"]

    def kept(self) -> int:
        """Calls in the inbox."""
        with self.database.read() as db:
            return int(db.scalar(sa.select(sa.func.count()).select_from(INBOX)) or 0)


@contextmanager
def receiver(
    folder: Path,
    keys: Secrets | None = None,
    *,
    is_ready: Callable[[], str | None] = lambda: None,
    patience: Patience = PATIENCE,
    wakes: Callable[[Database, Callable[[], float]], Wakes] = Wakes,
) -> Iterator[Receiver]:
    database, woken, calls = Database(folder / "ledger.sqlite"), list[int](), Calls()
    with closing(wakes(database, time.time)) as kept:
        app = make_app(
            kept,
            keys or secrets(),
            [PROJECT],
            lambda: woken.append(1),
            calls=calls,
            is_ready=is_ready,
            patience=patience,
        )
        with TestClient(app, raise_server_exceptions=False) as client:
            yield Receiver(app, client, database, kept, woken, calls)


async def post(app: FastAPI, body: bytes, headers: dict[str, str], route: str = "encord") -> str:
    """The status in words, of a call over ASGI itself: no client or parser damages or refuses it on its way."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "method": "POST", "query_string": b""}
    names = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await app(scope | {"path": f"/webhooks/{route}", "headers": names}, receive, send)
    return str(json.loads(sent[1]["body"])["status"])
