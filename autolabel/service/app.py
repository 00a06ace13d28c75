"""The web application: size, signature, what it asks for; kept durably, then answered. It starts nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import ClientDisconnect

from autolabel.errors import AutolabelError, PermanentCallError, TransientLedgerError
from autolabel.logs import get_logger
from autolabel.service.calls import Calls
from autolabel.service.envelopes import BucketEvent, Ignored, OtherEvent, TaskReady, read_bucket, read_encord
from autolabel.service.secrets import KeyRing, Secrets
from autolabel.wakes import Hint, Wakes

MAX_BODY_BYTES = 64 << 10

_log = get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """For how long a body may come and the ledger be waited for: what it did not take by then is not acknowledged."""

    body_s: float = 10.0
    ledger_s: float = 20.0


PATIENCE = Patience()


class Answer(BaseModel):
    """What a caller is told; `why` where nothing was kept."""

    status: Literal["accepted", "replayed", "ignored", "refused", "alive", "ready", "not_ready"]
    why: str | None = None


@dataclass(frozen=True)
class Door:
    """How the calls of one route are authenticated and read."""

    name: str
    ring: KeyRing
    read: Callable[[bytes], Hint | Ignored]


def make_app(  # noqa: PLR0913 - what it is made of, once
    wakes: Wakes,
    secrets: Secrets,
    allowed: Collection[str],
    on_wake: Callable[[], None],
    *,
    calls: Calls | None = None,
    is_ready: Callable[[], str | None] = lambda: None,
    routers: Sequence[APIRouter] = (),
    patience: Patience = PATIENCE,
) -> FastAPI:
    """The receiver, and whatever `routers` add to it.

    - `allowed`: hashes of the projects that webhooks may serve.
    - `on_wake`: called after each call that is kept, on a thread of the application's; it must not block.
    - `is_ready`: what is wrong with whoever carries runs out; None where nothing is. It must not block.
    """
    receiver = _Receiver(wakes, frozenset(allowed), on_wake, calls or Calls(), patience)
    app = FastAPI(title="autolabel", docs_url=None, redoc_url=None, lifespan=receiver.lifespan)
    encord = Door("encord", secrets.encord, read_encord)
    bucket = Door("bucket", secrets.bucket, read_bucket)
    signed = ["X-Encord-Timestamp", "X-Encord-Signature"]
    standard = ["webhook-id", "webhook-timestamp", "webhook-signature"]

    @app.post("/webhooks/encord", openapi_extra=_request(["TaskReady", "OtherEvent"], signed), **_ANSWERS)
    async def post_encord(request: Request) -> JSONResponse:
        """A webhook of Encord's. Only task-ready notifications of an Agent stage ask for a run."""
        return await receiver.receive(encord, request)

    @app.post("/webhooks/bucket", openapi_extra=_request(["BucketEvent"], standard), **_ANSWERS)
    async def post_bucket(request: Request) -> JSONResponse:
        """New files, told by a function of yours and signed as in the Standard Webhooks specification."""
        return await receiver.receive(bucket, request)

    @app.get("/healthz", response_model_exclude_none=True)
    async def healthz() -> Answer:
        """The process lives."""
        return Answer(status="alive")

    @app.get("/readyz", response_model=Answer, responses={503: {"model": Answer}})
    async def readyz() -> JSONResponse:
        """The ledger can be written, its disk has room, and runs are carried out."""
        return await receiver.ready(is_ready)

    for router in routers:
        app.include_router(router)
    app.openapi()["components"]["schemas"] |= _BODIES["$defs"]
    return app


_ANSWERS: dict[str, Any] = {
    "response_model": Answer,
    "responses": {
        400: {"model": Answer, "description": "Authentic, and a field is not usable"},
        401: {"model": Answer, "description": "Not signed with a secret of ours, or not within 300 s"},
        408: {"model": Answer, "description": "The body did not come within 10 s"},
        413: {"model": Answer, "description": "More than 64 KiB"},
        503: {"model": Answer, "description": "No secret is set, or it could not be kept: not acknowledged"},
    },
}


_PLACE = "#/components/schemas/{model}"
_, _BODIES = models_json_schema(
    [(model, "validation") for model in (TaskReady, OtherEvent, BucketEvent)], ref_template=_PLACE
)


def _request(models: Sequence[str], headers: Sequence[str]) -> dict[str, Any]:
    """A body is read as bytes, since those are what is signed; so FastAPI has to be told what is in it."""
    named = {"in": "header", "required": True, "schema": {"type": "string"}}
    schema = {"oneOf": [{"$ref": _PLACE.format(model=model)} for model in models]}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"parameters": [{"name": name, **named} for name in headers], "requestBody": body}


@dataclass(frozen=True)
class _Receiver:
    wakes: Wakes
    allowed: frozenset[str]
    on_wake: Callable[[], None]
    calls: Calls
    patience: Patience
    # The ledger has one writer at a time anyway, and one that waits for it must hold nothing else up.
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "inbox"))

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        yield
        self.thread.shutdown()

    async def receive(self, door: Door, request: Request) -> JSONResponse:
        about: dict[str, str] = {}
        try:
            answer, status = await self._judged(door, request, about), 200
        except PermanentCallError as error:
            answer, status = Answer(status="refused", why=str(error)), error.status
        outcome = answer.status if status == 200 else f"{answer.status}_{status}"
        self.calls.count(door.name, outcome)
        if answer.status == "accepted":
            _log.info("webhook", route=door.name, outcome=outcome, **about)
        else:
            self.calls.tell(door.name, outcome, why=answer.why or "it came before", **about)
        return _response(answer, status)

    async def _judged(self, door: Door, request: Request, about: dict[str, str]) -> Answer:
        if not (keys := door.ring.current()):
            raise PermanentCallError(503, "no secret is set for this route; see .env.example")
        body = await read_body(request, self.patience.body_s)
        digest = door.ring.scheme.verify(request.headers.raw, body, keys, time.time())
        hint = door.read(body)
        if isinstance(hint, Ignored):
            return Answer(status="ignored", why=hint.why)
        about |= {"project": hint.project_hash, "place": hint.place}
        if hint.project_hash and hint.project_hash not in self.allowed:
            return Answer(status="ignored", why="the project is not one of AUTOLABEL_PROJECTS")
        try:
            is_new = await self._in_thread(lambda: self._keep(digest, hint))
        except AutolabelError as error:
            raise PermanentCallError(503, f"not kept, send it again: {error}") from error
        return Answer(status="accepted" if is_new else "replayed")

    def _keep(self, digest: str, hint: Hint) -> bool:
        is_new = self.wakes.accept(digest, hint)
        if is_new:
            self.on_wake()
        return is_new

    async def ready(self, is_ready: Callable[[], str | None]) -> JSONResponse:
        try:
            await self._in_thread(self.wakes.check)
            why = is_ready()
        except AutolabelError as error:
            why = str(error)
        return _response(Answer(status="not_ready", why=why), 503) if why else _response(Answer(status="ready"), 200)

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        """Raises TransientLedgerError where the ledger takes too long."""
        try:
            under_way = asyncio.get_running_loop().run_in_executor(self.thread, step)
            return await asyncio.wait_for(under_way, self.patience.ledger_s)
        except TimeoutError:
            raise TransientLedgerError("another process does not let go of the ledger") from None


async def read_body(request: Request, timeout_s: float) -> bytes:
    """Raises PermanentCallError for one that is too large (as soon as that is known), too slow, or breaks off."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > len(str(MAX_BODY_BYTES)) or int(declared) > MAX_BODY_BYTES):
        raise PermanentCallError(413, f"more than {MAX_BODY_BYTES} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise PermanentCallError(413, f"more than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise PermanentCallError(408, f"the body did not come within {timeout_s:.0f} s") from None
    except ClientDisconnect:
        raise PermanentCallError(400, "the body broke off") from None
    return bytes(body)


def _response(answer: Answer, status: int) -> JSONResponse:
    return JSONResponse(answer.model_dump(exclude_none=True), status)
