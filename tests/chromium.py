"""A headless browser of this machine that reaches 127.0.0.1 alone: what a page becomes in it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr"),
)
DARK = "--blink-settings=preferredColorScheme=0"


@dataclass(frozen=True)
class Opened:
    """- `dom`: the page once it stands; `console`: what the browser complains of, a line each."""

    dom: str
    console: tuple[str, ...]


def open_in_browser(url: str, picture: Path, size_px: tuple[int, int], *more: str) -> Opened:
    """Open a page and keep a picture of its top. Skips the test where there is no Chromium."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not on this machine")
    with tempfile.TemporaryDirectory() as profile:
        own = (f"--user-data-dir={profile}", f"--window-size={size_px[0]},{size_px[1]}", f"--screenshot={picture}")
        command = [binary, *QUIET, *own, *more, "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Opened(done.stdout, tuple(line for line in done.stderr.splitlines() if ":CONSOLE:" in line))
