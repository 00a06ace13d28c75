"""The proxy of scripts/deploy in front of a service: what the world can reach of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

CADDYFILE = Path(__file__).parents[2] / "scripts" / "deploy" / "Caddyfile"
PRIVATE = ("/", "/metrics", "/healthz", "/readyz", "/docs", "/openapi.json", "/reports/20261122-020435-abee.html")
DETOURS = (
    *(
        "/webhooks/../metrics",
        "/webhooks/encord/../../metrics",
        "/webhooks/%2e%2e/metrics",
        "/webhooks/encord%2f..%2f..%2f",
    ),
    *("//metrics", "/webhooks", "/webhooks/", "/webhooks/other", "/WEBHOOKS/../"),
)

pytestmark = pytest.mark.skipif(not shutil.which("caddy"), reason="caddy is not installed here")


@dataclass
class Published:
    """A service behind the proxy: `seen` has what came through, (method and path, headers, body)."""

    port: int = 0
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        """The path goes out as it is given."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            return connection.getresponse().status
        finally:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    proxy = Published(free_port())

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.seen.append((f"POST {self.path}", dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST  # noqa: N815

        def log_message(self, *about: object) -> None: ...

    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=service.serve_forever, daemon=True).start()
    text = CADDYFILE.read_text().replace("autolabel.example.com {", f"http://127.0.0.1:{proxy.port} {{")
    text = text.replace("127.0.0.1:8765", f"127.0.0.1:{service.server_port}")
    (tmp_path / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}")
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", tmp_path / "Caddyfile"]
    env = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    caddy = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        wait_until_open(proxy.port, caddy)
        yield proxy
    finally:
        caddy.terminate()
        caddy.wait(30)
        service.shutdown()
        service.server_close()


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("the proxy does not answer")


def test_the_world_reaches_the_two_webhooks_and_their_calls_come_through_as_they_were_signed(
    published: Published,
) -> None:
    body, signed = b'{"payload": "\xc3\xa9 "}\n', {"X-Encord-Timestamp": "1", "X-Encord-Signature": "ab"}
    for name in ("encord", "bucket"):
        assert published.send("POST", f"/webhooks/{name}", body, signed) == 200
    assert [(path, sent) for path, _, sent in published.seen] == [
        ("POST /webhooks/encord", body),
        ("POST /webhooks/bucket", body),
    ]
    assert signed.items() <= published.seen[0][1].items()


def test_the_world_reaches_nothing_else_however_it_asks(published: Published) -> None:
    for path in (*PRIVATE, *DETOURS):
        assert published.send("GET", path) == 404, path
        assert published.send("POST", path, b"{}") == 404, path
    assert published.send("GET", "/webhooks/encord") == 404
    assert published.seen == []
