"""What a new operator sets up: the first webhook as the README has it typed, and what a proxy lets through."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
CADDYFILE = ROOT / "scripts" / "deploy" / "Caddyfile"
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
    if not shutil.which("caddy"):
        pytest.skip("caddy is not installed here")
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


def test_the_readmes_first_webhook_is_served_as_it_is_typed_there(tmp_path: Path) -> None:
    """The block as it stands, with ports that are free here, and waits where a person reads."""
    (block,) = re.findall(r"```console\n(\$ autolabel sandbox .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    platform, here = free_port(), free_port()  # the page's port is the one after
    changes = {
        "--frames 8 &": f"--frames 8 & reach {platform}",
        "autolabel serve &": f"autolabel serve --port {here} & reach {here}",
        "autolabel status": "until autolabel status | grep ' 5  labelled'; do sleep 1; done",
        "8700": str(platform),
        "8765": str(here),
    }
    for said, typed in changes.items():
        assert said in block
        block = block.replace(said, typed)
    reach = 'reach() { until curl -so /dev/null "http://127.0.0.1:$1"; do sleep 0.2; done; }\n'
    (tmp_path / "typed").write_text(reach + re.sub(r"^\$ ", "", block, flags=re.MULTILINE) + "wait\n")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["timeout", "300", "bash", "-e", "typed"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 5  labelled" in done.stdout
