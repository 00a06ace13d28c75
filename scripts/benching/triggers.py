"""What can call for a run on new data, each as an operator would set it up, against a sandbox."""

import base64
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from deploy.bucket_function import tell

ENCORD_SECRET = secrets.token_hex(32)
BUCKET_SECRET = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
LIMIT_S = 180.0
OnUpload = Callable[[str], None]
"""Told of a dataset that has a new picture."""


@dataclass(frozen=True)
class Site:
    """A sandbox with one project, and a home for the product. `called_s`: when cron or a bucket event called."""

    domain: str
    key_file: str
    project: str
    home: Path
    called_s: list[float] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`autolabel`; what it says is kept in its home."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
        own = {
            "ENCORD_DOMAIN": self.domain,
            "ENCORD_SSH_KEY_FILE": self.key_file,
            "ENCORD_WEBHOOK_SECRET": ENCORD_SECRET,
            "AUTOLABEL_BUCKET_SECRET": BUCKET_SECRET,
            "AUTOLABEL_PROJECTS": self.project,
            "AUTOLABEL_HOME": str(self.home),
            "AUTOLABEL_CONFIG": "demo",
        }
        command = [sys.executable, "-m", "autolabel", *arguments]
        with (self.home / "output.txt").open("ab") as output:
            return subprocess.Popen(command, env={**clean, **own}, stdout=output, stderr=output)

    def said(self) -> str:
        return (self.home / "output.txt").read_text()[-2000:]


@contextmanager
def stage_told(site: Site, every_s: float) -> Iterator[OnUpload]:
    """The Agent stage notifies `autolabel serve`; Encord looks at its queue every so often."""
    with _serving(site) as address:
        hook = {"url": f"{address}/webhooks/encord", "secret": ENCORD_SECRET, "project": site.project}
        wanted = {**hook, "kind": "agent_stage", "every_s": every_s}
        requests.post(f"{site.domain}/admin/webhooks", json=wanted, timeout=30).raise_for_status()
        yield lambda dataset_hash: None


@contextmanager
def bucket_told(site: Site, every_s: float) -> Iterator[OnUpload]:
    """A function of one's own posts to `autolabel serve` after each upload."""

    def on_upload(dataset_hash: str) -> None:
        site.called_s.append(time.time())
        tell(f"{address}/webhooks/bucket", BUCKET_SECRET, dataset_hash)

    with _serving(site) as address:
        yield on_upload


@contextmanager
def cron(site: Site, every_s: float) -> Iterator[OnUpload]:
    """`push --all` every so often, unless the one before still runs."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(every_s - time.time() % every_s):
            site.called_s.append(time.time())
            site.start("push", "--all").wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda dataset_hash: None
    finally:
        over.set()
        thread.join()


@contextmanager
def _serving(site: Site) -> Iterator[str]:
    """`autolabel serve` as long as the block runs; its address."""
    port = _free_port()
    address, end_s = f"http://127.0.0.1:{port}", time.monotonic() + LIMIT_S
    process = site.start("serve", "--port", str(port))
    try:
        while not _is_up(address):
            if process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f"autolabel serve did not start: {site.said()}")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    """The one after it is free as well, for the operator's page."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as free, suppress(OSError, OverflowError):
            port: int = free.getsockname()[1]
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


def _is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/healthz", timeout=5).ok
    except requests.ConnectionError:
        return False
