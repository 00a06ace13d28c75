"""A hub of one repository over real HTTP, as much of it as a download needs: listing, digests, files, a gate."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "c" * 40


@contextmanager
def serving(repository: str, files: dict[str, bytes], *, is_gated: bool = False) -> Iterator[str]:
    """Serve `files` as a model repository; gives the address for HF_ENDPOINT."""
    server = Hub(repository, files, is_gated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def digests(name: str, content: bytes) -> tuple[str, str | None]:
    """Git's of every file, and the SHA-256 of those that are large for git: weights."""
    git = hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
    return git, hashlib.sha256(content).hexdigest() if name.endswith(".safetensors") else None


class Hub(ThreadingHTTPServer):
    def __init__(self, repository: str, files: dict[str, bytes], is_gated: bool) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repository, self.files, self.is_gated = repository, files, is_gated

    def listing(self) -> list[dict[str, object]]:
        listed: list[dict[str, object]] = []
        for name, content in self.files.items():
            (git, sha256), size = digests(name, content), len(content)
            large = {"lfs": {"oid": sha256, "size": size, "pointerSize": 130}} if sha256 else {}
            listed.append({"type": "file", "path": name, "size": size, "oid": git, **large})
        return listed


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, urlsplit(self.path).path
        if path.startswith(f"/api/models/{hub.repository}/revision/"):
            self._send(json.dumps({"id": hub.repository, "sha": COMMIT}).encode())
        elif path.startswith(f"/api/models/{hub.repository}/tree/"):
            self._send(json.dumps(hub.listing()).encode())
        elif not path.startswith(f"/{hub.repository}/resolve/"):
            self._send(b"", 404, {"X-Error-Code": "RepoNotFound"})
        elif hub.is_gated:
            self._send(b"", 403, {"X-Error-Code": "GatedRepo"})
        else:
            content = hub.files[name := path.rpartition("/")[2]]
            git, sha256 = digests(name, content)
            self._send(content, headers={"ETag": f'"{sha256 or git}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET  # noqa: N815 - http.server's names

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
