"""Does the pipeline overlap? Pushes of small pictures over a slow network, with a model that only waits.

Prints one line a figure: what the push took, each stage's busy seconds, the CPU of all processes, the bound that
follows from these, and the peak memory of each process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from encord.objects import Shape

from autolabel.core.rows import Destination
from benching.finds import WAITING_FAMILY
from benching.world import STAGE, World, open_world

ROWS = (500, 2000)
SIZE_PX = (64, 64)
NETWORK_S = 0.1
"""How long the stand-in keeps every download waiting."""
CORES = 2
SAMPLE_EVERY_S = 0.2
RECIPE = f'detector: {{family: {WAITING_FAMILY}, weights: "bundled:detector"}}\n'
ROLES = {"autolabel.sandbox.server": "platform", "benching.pushed": "push", "autolabel.decoder": "decoder"}


@dataclass
class Usage:
    """CPU seconds and peak bytes by process: of the platform's stand-in too, which runs on the same cores."""

    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak_bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def sample(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                role = _role(process.cmdline())
                spent, held = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                continue
            self.cpu_s[role] = max(self.cpu_s[role], spent.user + spent.system)
            self.peak_bytes[role] = max(self.peak_bytes[role], held)


def _role(command: list[str]) -> str:
    return next((role for name, role in ROLES.items() if any(name in word for word in command)), "inference")


def push(world: World, home: Path, destination: Destination) -> tuple[dict[str, Any], float, Usage]:
    """The push's summary, its seconds from start to end, and what it took."""
    home.mkdir()
    recipe = home / "recipe.yaml"
    recipe.write_text(RECIPE)
    ours = {"HOME": home, "CONFIG": recipe, "AGENT_STAGE": STAGE}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
    settings = {f"AUTOLABEL_{name}": str(value) for name, value in ours.items()}
    arguments = ["push", "--project", world.project, "--to", destination, "--yes", "--json"]
    usage = Usage()
    began_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "benching.pushed", *arguments],
        env={**clean, **world.environment(), **settings},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(usage, over))
        watcher.start()
        output, _ = process.communicate()
        over.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"the push ended with exit code {process.returncode}: {output}")
    return json.loads(output), time.monotonic() - began_s, usage


def _watch(usage: Usage, over: threading.Event) -> None:
    while not over.wait(SAMPLE_EVERY_S):
        usage.sample()


def measure(rows: int, destination: Destination, network_s: float = NETWORK_S) -> dict[str, Any]:
    """A fresh project of so many rows, pushed once."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_world(Path(folder) / "sandbox", rows, Shape.BOUNDING_BOX, pictures=True, size_px=SIZE_PX) as world,
    ):
        slow = {"kind": "slow", "match": {"path_contains": "/blobs/"}, "times": 10**9, "delay_s": network_s}
        world.admin("POST", "faults", [slow])
        summary, command_s, usage = push(world, Path(folder) / "home", destination)
    if summary["labelled"] != rows:
        raise SystemExit(f"{summary['labelled']} of {rows} rows were labelled: {summary}")
    return {"rows": rows, "command_s": command_s, "cpu_s": dict(usage.cpu_s), "peak_bytes": dict(usage.peak_bytes)}


def lines(found: dict[str, Any]) -> Iterator[str]:
    cpu_s = sum(found["cpu_s"].values())
    yield f"{found['rows']} frames: {found['command_s']:.1f} s"
    yield f"CPU {cpu_s:.1f} s, on {CORES} cores {cpu_s / CORES:.1f} s: {found['cpu_s']}"
    yield f"MB: { {k: v >> 20 for k, v in found['peak_bytes'].items()} }"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="a push of each, one by one")
    arguments.add_argument("--to", type=Destination, default=Destination.MAIN)
    wanted = arguments.parse_args()
    for rows in wanted.rows:
        print(*lines(measure(rows, wanted.to)), sep="\n")


if __name__ == "__main__":
    main()
