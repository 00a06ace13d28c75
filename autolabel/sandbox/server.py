"""The thin shell: HTTP in, signature checked, planned faults played, rules asked, answer logged.

It binds 127.0.0.1 only. The /admin routes, for tests and demos, need no signature for that reason.
Not known of the real server, and decided here: which message an error carries; that an expired URL
answers 403 as cloud stores do; that retries of a request are never refused as replays.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from autolabel.sandbox import auth, labels, library, projects, storage, timers, workflow
from autolabel.sandbox.admin import Admin
from autolabel.sandbox.faults import EXPIRED_URL, Fault, Faults
from autolabel.sandbox.store import Call, Item, Json, Log, Project, RefusedError, Store, User
from autolabel.sandbox.webhooks import Webhooks

KEY_FILE = "sandbox_key"
READY_FILE = "sandbox.json"
USER = "prelabel-service@example.com"
LEGACY_PATHS = {"/public", "/public/user"}
LEGACY = labels.LEGACY | workflow.LEGACY | library.LEGACY | storage.LEGACY
V2 = [
    (method, compile_path(f"/v2/public{path}")[0], handler)
    for method, path, handler in [*labels.V2, *workflow.V2, *library.V2, *storage.V2, *timers.V2]
]


@dataclass
class Exchange:
    """One request on its way through, and what the log will say of it."""

    request: Request
    body: bytes
    began: float
    envelope: Json | None = None  # of the legacy dialect
    user: str | None = None
    status: int | None = 500  # until something better is known
    effect: str | None = None  # what it changed
    unknown: bool = False

    def traits(self) -> Json:
        """What faults are matched on and the log tells. No query: it may hold a token."""
        envelope = self.envelope or {}
        return {
            "method": self.request.method,
            "path": self.request.url.path,
            "query_type": envelope.get("query_type"),
            "query_method": envelope.get("query_method"),
        }

    def answered(self, content: Any) -> Response:
        self.status = 200
        if self.envelope is not None:
            return JSONResponse({"status": 200, "response": content})
        if content is None:
            return Response(status_code=204)
        return JSONResponse(content)

    def refused(self, refusal: RefusedError) -> Response:
        self.status = refusal.status
        if self.envelope is None:
            return JSONResponse({"message": refusal.message}, refusal.status)
        content = {"status": refusal.status, "response": [refusal.code]}
        return JSONResponse(content | {"payload": refusal.message})


class Sandbox:
    """The ASGI application. Rules run on the event loop's thread, so each is one atomic step."""

    def __init__(self, directory: Path, domain: str) -> None:
        key = auth.load_or_make_key(directory / KEY_FILE)
        self._signer = auth.UrlSigner(hashlib.sha256(key.private_bytes_raw()).digest())
        self._domain = domain
        self._blobs = directory / "blobs"
        self._blobs.mkdir(exist_ok=True)
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}
        self.store = Store(Log(directory / "log.jsonl"), now=lambda: datetime.now(UTC))
        self._files = projects.Files(self.store, self._blobs)
        self._faults = Faults()
        self.webhooks = Webhooks(self.store, directory / "webhook-secrets", self._faults)
        self._admin = Admin(self.store, self._faults, self.webhooks)
        public_key = auth.public_hex(key)
        if public_key not in self.store.table(User):
            self.store.commit("user_created", USER, User(USER, public_key))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        exchange = Exchange(request, await request.body(), time.monotonic())
        if request.url.path.startswith("/admin/"):
            response = self._administer(exchange)
            await response(scope, receive, send)
            return
        if request.url.path in LEGACY_PATHS:
            exchange.envelope = json.loads(exchange.body)
        fault = self._faults.meet(exchange.traits())
        if fault is None:
            try:
                response = await self._respond(exchange)
            finally:  # a request that breaks the stand-in is logged as well
                self._note(exchange, "request")
            await response(scope, receive, send)
        else:
            await self._mishandle(exchange, fault, send)

    def _administer(self, exchange: Exchange) -> Response:
        """Only what changes something is logged, so that polling does not fill the log."""
        request = exchange.request

        def handle() -> Any:
            payload = json.loads(exchange.body) if exchange.body else None
            return self._admin.handle(request.method, request.url.path, request.query_params, payload)

        response = self._answer(exchange, handle)
        if request.method != "GET":
            self._note(exchange, "admin")
        return response

    async def _respond(self, exchange: Exchange, fault: Fault | None = None) -> Response:
        if exchange.request.url.path.startswith("/blobs/"):
            return await self._blob(exchange)
        return self._answer(exchange, lambda: self._ruled(exchange, fault))

    def _answer(self, exchange: Exchange, handle: Callable[[], Any]) -> Response:
        """What `handle` returns or refuses, as a response. It awaits nothing: effects are its own."""
        before = len(self.store.effects)
        try:
            return exchange.answered(handle())
        except RefusedError as refusal:
            return exchange.refused(refusal)
        finally:
            exchange.effect = next(iter(self.store.effects[before:]), None)

    async def _mishandle(self, exchange: Exchange, fault: Fault, send: Send) -> None:
        """Play a planned fault; whatever is applied is applied before the wire breaks."""
        if fault.kind != "drip":
            await asyncio.sleep(fault.delay_s)
        if fault.kind not in {"reset_before", "status", "expire_url"}:
            response = await self._respond(exchange, fault)
        if fault.kind in {"reset_before", "status", "expire_url", "not_json"}:
            response = fault.answer(in_envelope=exchange.envelope is not None)
            exchange.status = None if fault.kind == "reset_before" else response.status_code
        self._note(exchange, "request", fault=fault.id)
        if fault.kind in {"reset_before", "reset_after"}:
            await self._reset(exchange.request)
        elif fault.kind == "truncate":
            await self._truncate(exchange.request, response, send)
        elif fault.kind == "drip":
            await self._drip(exchange.request, response, send, fault.delay_s)
        else:
            await response(exchange.request.scope, exchange.request.receive, send)

    # ------------------------------------------------------------------------------ the dialects

    def _ruled(self, exchange: Exchange, fault: Fault | None) -> Any:
        """What the rules answer to a signed request."""
        request, users = exchange.request, self.store.table(User)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            user = auth.authenticate_bearer(token, users)
        elif exchange.envelope is not None:
            user = auth.authenticate_legacy(request.headers, exchange.body, users)
        else:
            target = request.scope["raw_path"].decode()
            if request.url.query:
                target += f"?{request.url.query}"
            user = auth.authenticate_v2(request.method, target, request.headers, exchange.body, users)
        exchange.user = user.email
        if exchange.envelope is not None:
            return self._legacy(exchange, exchange.envelope, fault)
        return self._v2(exchange, fault)

    def _legacy(self, exchange: Exchange, envelope: Json, fault: Fault | None) -> Any:
        handler = LEGACY.get((envelope["query_type"], envelope["query_method"]))
        if handler is None:
            raise self._unknown(exchange, RefusedError(500, "UNKNOWN_ERROR", "unknown query type"))
        values, resource = envelope["values"], exchange.request.headers.get("resourceid", "")
        uid, payload = values["uid"] or [], values["payload"]
        if isinstance(uid, dict):  # datasetdata sends its payload as the uid
            uid, payload = [], uid
        call = self._call(exchange, {"resource": resource}, payload)
        call = replace(call, uid=[uid] if isinstance(uid, str) else uid)
        return fault.handled(handler, call) if fault else handler(call)

    def _v2(self, exchange: Exchange, fault: Fault | None) -> Any:
        request = exchange.request
        for method, pattern, handler in V2:
            found = pattern.match(request.url.path)
            if found and method == request.method:
                payload = json.loads(exchange.body) if exchange.body else None
                call = self._call(exchange, found.groupdict(), payload)
                return fault.handled(handler, call) if fault else handler(call)
        raise self._unknown(exchange, RefusedError(404, "", "Not Found"))

    def _call(self, exchange: Exchange, ids: dict[str, str], payload: Any) -> Call:
        query = exchange.request.query_params
        return Call(
            store=self.store,
            user=exchange.user or "",
            ids=ids,
            query={name: query.getlist(name) for name in query},
            uid=[],
            payload=payload,
            signed_url=self._signed_url,
            blobs=self._blobs,
        )

    def _unknown(self, exchange: Exchange, refusal: RefusedError) -> RefusedError:
        exchange.unknown = True
        sys.stderr.write(f"the stand-in does not know this request: {exchange.traits()}\n")
        return refusal

    # ------------------------------------------------------------------------------------- blobs

    def _signed_url(self, method: str, path: str) -> str:
        expires = time.time() + self.store.settings().url_lifetime_s
        return f"{self._domain}{path}?{self._signer.query(method, path, expires)}"

    async def _blob(self, exchange: Exchange) -> Response:
        """A signed URL: whoever has it may use it, until it expires."""
        request, path = exchange.request, exchange.request.url.path
        stored = self._blobs / path.removeprefix("/blobs/")
        if not self._signer.accepts(request.method, path, request.query_params, time.time()):
            response = Response(EXPIRED_URL, 403, media_type="application/xml")
        elif request.method == "PUT":
            stored.write_bytes(exchange.body)
            response = Response()
        else:
            item = self.store.get(Item, stored.name)
            content = await run_in_threadpool(self._files.read, item)
            response = _ranged(content, str(item.mime_type), request.headers.get("range", ""))
        exchange.status = response.status_code
        return response

    # ------------------------------------------------------------------------ the log, the wire

    def _note(self, exchange: Exchange, kind: str, **more: Any) -> None:
        entry = {
            "kind": "unknown_route" if exchange.unknown else kind,
            "at": self.store.now(),
            "status": exchange.status,
            "user": exchange.user,
            "effect": exchange.effect,
            "agent": exchange.request.headers.get("user-agent", ""),
            "duration_ms": round((time.monotonic() - exchange.began) * 1000, 1),
        }
        self.store.log.append(exchange.traits() | entry | more)

    def _transport(self, request: Request) -> asyncio.Transport:
        client = request.client
        assert client is not None
        return self.transports[(client.host, client.port)]

    async def _reset(self, request: Request) -> None:
        """A TCP reset: lingering for no time makes the kernel send RST instead of FIN."""
        transport = self._transport(request)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await asyncio.sleep(0)  # uvicorn learns of the lost connection, and sends nothing itself

    async def _drip(self, request: Request, response: Response, send: Send, every_s: float) -> None:
        """The body byte by byte, for as long as the client wants it."""
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        transport = self._transport(request)
        for byte in bytes(response.body):
            if transport.is_closing():
                return
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            await asyncio.sleep(every_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _truncate(self, request: Request, response: Response, send: Send) -> None:
        """The full Content-Length, and half of the body."""
        start = {"status": response.status_code, "headers": response.raw_headers}
        await send({"type": "http.response.start", **start})
        half = bytes(response.body)[: len(response.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        self._transport(request).close()
        await asyncio.sleep(0)


def _ranged(content: bytes, mime_type: str, wanted: str) -> Response:
    """The whole, or one `bytes=first-last` range of it."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not found:
        return Response(content, media_type=mime_type, headers={"Accept-Ranges": "bytes"})
    first, last = int(found[1]), int(found[2] or len(content) - 1)
    part = content[first : last + 1]
    if not part:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    return Response(part, 206, media_type=mime_type, headers={"Content-Range": span})


# --------------------------------------------------------------------------------------- serving


def serve(directory: Path, port: int = 0, scenario: str | None = None, frames: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT; DIR/sandbox.json is there once requests are answered."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / READY_FILE).unlink(missing_ok=True)
    with socket.create_server(("127.0.0.1", port)) as listener:
        domain = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sandbox = Sandbox(directory, domain)
        if scenario is not None:
            projects.create_scenario(sandbox.store, directory, scenario, frames, USER)
        config = uvicorn.Config(
            sandbox,
            http=_protocol_of(sandbox),
            lifespan="off",
            ws="none",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, on_ready=lambda: _announce(sandbox, directory, domain))
        asyncio.run(server.serve(sockets=[listener]))


def _announce(sandbox: Sandbox, directory: Path, domain: str) -> None:
    sandbox.webhooks.start()
    projects = sandbox.store.table(Project).values()
    content = {
        "domain": domain,
        "ssh_key_file": str(directory / KEY_FILE),
        "projects": {project.title: project.project_hash for project in projects},
    }
    fresh = directory / f"{READY_FILE}.new"
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(directory / READY_FILE)
    sys.stdout.write(
        f"Stand-in of the Encord API for tests and demos at {domain}: it checks signatures and"
        " label rows, but not permissions, rate limits or payload sizes.\n"
    )
    sys.stdout.flush()


class _Server(uvicorn.Server):
    """uvicorn, telling when it is ready, and ending normally on a signal instead of re-raising."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (SIGTERM, SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield


def _protocol_of(sandbox: Sandbox) -> type[H11Protocol]:
    """HTTP/1.1 that lets the sandbox at the connections, which faults have to break."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client:
                sandbox.transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self.client:
                sandbox.transports.pop(self.client, None)

    return Protocol


if __name__ == "__main__":
    serve(
        Path(sys.argv[1]),
        port=int(sys.argv[2]),
        scenario=sys.argv[3] or None,
        frames=int(sys.argv[4]) if sys.argv[4] else None,
    )
