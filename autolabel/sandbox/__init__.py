"""A stand-in of the Encord API over real HTTP on loopback, for tests and demos.

Speaks to the real, unmodified `encord` SDK, and shares no code with the rest of autolabel: what
tests the product must not make the product's mistakes. State: memory plus DIR/log.jsonl.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTUP_TIMEOUT_S = 120.0
SHUTDOWN_TIMEOUT_S = 10.0


@contextmanager
def running(
    directory: Path, scenario: str | None = None, frames: int | None = None, port: int = 0
) -> Iterator[dict[str, Any]]:
    """A sandbox in a child process for as long as the block runs; yields its sandbox.json."""
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / "sandbox.json"
    ready.unlink(missing_ok=True)
    arguments = [str(directory), str(port), scenario or "", str(frames or "")]
    command = [sys.executable, "-m", "autolabel.sandbox.server", *arguments]
    output = directory / "output.txt"
    with output.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        _wait_for(ready, child, output)
        yield json.loads(ready.read_text()) | {"pid": child.pid}
    finally:
        child.terminate()
        try:
            child.wait(SHUTDOWN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_for(ready: Path, child: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + STARTUP_TIMEOUT_S
    while not ready.exists():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the sandbox did not start; it said:\n{output.read_text()}")
        time.sleep(0.01)
