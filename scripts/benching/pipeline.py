"""Does the pipeline overlap? Pushes of small pictures over a slow network, with a model that only waits.

Prints one line a figure: what the push took, each stage's busy seconds, the CPU of all processes, the bound that
follows from these, and the peak memory of each process.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from encord.objects import Shape

from autolabel.core.rows import Destination
from autolabel.settings import Settings
from benching.finds import SECONDS_A_BATCH, WAITING_FAMILY
from benching.world import STAGE, World, open_world

ROWS = (500, 2000, 5000)
SIZE_PX = (64, 64)
NETWORK_S = 0.1
"""How long the stand-in keeps every download waiting."""
CORES = len(os.sched_getaffinity(0))
SAMPLE_EVERY_S = 0.2
RECIPE = f'detector: {{family: {WAITING_FAMILY}, weights: "bundled:detector"}}\n'
ROLES = {
    "autolabel.sandbox.server": "platform",
    "benching.pushed": "push",
    "spawn_main": "inference",
    "autolabel.decoder": "decoder",
}
"""By a word of a process's command; one that has ended has no command any more, and helpers have none of these."""


@dataclass
class Usage:
    """CPU seconds, peak bytes, and seconds without a core, by process; the stand-in runs on the same cores."""

    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    queued_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak_bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def sample(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                role = _role(process.cmdline())
                spent, held, queued_s = process.cpu_times(), process.memory_info().rss, _queued_s(process.pid)
            except (psutil.Error, OSError):
                continue
            if role is None:
                continue
            self.queued_s[role] = max(self.queued_s[role], queued_s)
            self.cpu_s[role] = max(self.cpu_s[role], spent.user + spent.system)
            self.peak_bytes[role] = max(self.peak_bytes[role], held)


def _queued_s(pid: int) -> float:
    """For how long its threads that live were ready and had no core: what other programs on the machine cost it."""
    waits = (thread.read_text().split()[1] for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, waits)) / 1e9


def _role(command: list[str]) -> str | None:
    return next((role for name, role in ROLES.items() if any(name in word for word in command)), None)


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
    return judged(rows, network_s, summary["speed"], command_s, usage)


def judged(rows: int, network_s: float, speed: dict[str, Any], command_s: float, usage: Usage) -> dict[str, Any]:
    """What was measured, and the least that it could have taken: its longest wait, or all CPU on all cores."""
    threads, batch = (Settings.model_fields[name].default for name in ("download_threads", "batch_frames"))
    least_s = {
        "network": rows * network_s / threads,
        "models": math.ceil(rows / batch) * SECONDS_A_BATCH,
        "CPU": sum(usage.cpu_s.values()) / CORES,
    }
    bound = max(least_s, key=lambda name: least_s[name])
    return {
        "rows": rows,
        "command_s": command_s,
        "run_s": speed["seconds"],
        "stages": speed["stages"],
        "cpu_s": dict(usage.cpu_s),
        "queued_s": dict(usage.queued_s),
        "peak_mib": {role: held >> 20 for role, held in usage.peak_bytes.items()},
        "least_s": least_s,
        "bound": bound,
        "ratio": command_s / least_s[bound],
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['rows']} frames: {found['command_s']:.1f} s, of which the run {found['run_s']:.1f} s"
    for name, stage in found["stages"].items():
        yield f"  {name}: busy {stage['busy_s']:.1f} s, {stage['utilisation']:.0%} of the run"
    yield f"  CPU s: {_rounded(found['cpu_s'])}"
    yield f"  ready to run and without a core, s, over all threads: {_rounded(found['queued_s'])}"
    yield f"  the least it could take on {CORES} cores, s: {_rounded(found['least_s'])}"
    yield f"  ratio to the bound ({found['bound']}): {found['ratio']:.2f}"
    yield f"  peak memory, MiB: {_rounded(found['peak_mib'])}"


def _rounded(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in sorted(values.items()))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="a push of each, one by one")
    arguments.add_argument("--to", type=Destination, default=Destination.MAIN)
    wanted = arguments.parse_args()
    for rows in wanted.rows:
        print(*lines(measure(rows, wanted.to)), sep="\n")


if __name__ == "__main__":
    main()
