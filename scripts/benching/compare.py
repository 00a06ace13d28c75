"""The same job by `autolabel` and by `encord-agents`, under the same kills, HTTP faults and people at work."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from encord.objects import Shape

from autolabel.core.rows import Destination
from benching.disturbance import People, Runs, plan_faults, plan_kills, run_until
from benching.finds import RECIPE, SECONDS_A_PICTURE, find
from benching.world import STAGE, World, objects_of, open_world

ROWS = 100
SEEDS = (1, 2)
TOLERANCE = 1e-3
"""Of a coordinate, in fractions of the frame; two objects of the fake model are never so close."""


@dataclass(frozen=True)
class Tool:
    """`arguments` of a Python that does the job on a project, and what its environment says beside the platform."""

    name: str
    arguments: Callable[[str], list[str]]
    environment: Callable[[Path], dict[str, str]] = lambda home: {}

    def start(self, world: World, home: Path) -> subprocess.Popen[bytes]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
        with (home / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *self.arguments(world.project)],
                env={**clean, **world.environment(), **self.environment(home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def autolabel(destination: Destination) -> Tool:
    def environment(home: Path) -> dict[str, str]:
        recipe = home / "recipe.yaml"
        recipe.write_text(RECIPE)
        ours = {"HOME": home, "CONFIG": recipe, "AGENT_STAGE": STAGE, "REPORT_IMAGES": "off"}
        return {f"AUTOLABEL_{name}": str(value) for name, value in ours.items()}

    def arguments(project: str) -> list[str]:
        return ["-m", "benching.pushed", "push", "--project", project, "--to", destination, "--yes", "--json"]

    return Tool(f"autolabel --to {destination}", arguments, environment)


def encord_agents(saves: str) -> Tool:
    look = str(SECONDS_A_PICTURE)
    return Tool(
        f"encord-agents {version('encord-agents')}, {saves} saves",
        lambda project: ["-m", "benching.agent", "--project", project, "--saves", saves, "--look", look],
    )


def tools() -> list[Tool]:
    ours = [autolabel(destination) for destination in Destination if destination != Destination.BRANCH]
    return [*ours, encord_agents("batched"), encord_agents("single")]


@dataclass
class Outcome:
    """What a tool left behind. `frames_lost`: its task moved on without its labels, or did not move at all."""

    tool: str
    human_objects: int = 0
    overwritten: int = 0
    model_objects: int = 0
    doubled: int = 0
    frames: int = 0
    frames_lost: int = 0
    frames_to_people: int = 0
    kills: int = 0
    faults_met: int = 0
    undisturbed_s: float = 0.0
    disturbed_s: float = 0.0
    exits: Counter[int] = field(default_factory=Counter)

    def judge(self, world: World, drawn: dict[str, dict[str, list[float]]]) -> None:
        main, waiting = world.main(), world.waiting()
        self.frames += len(world.keys)
        self.faults_met += sum(fault["met"] for fault in world.admin("GET", "faults"))
        for data_hash, key in world.keys.items():
            stands = objects_of(main[data_hash]) if data_hash in main else []
            boxes = {item["objectHash"]: [item["boundingBox"][side] for side in "xywh"] for item in stands}
            by_people = drawn.get(data_hash, {})
            self.human_objects += len(by_people)
            self.overwritten += sum(boxes.get(name) != box for name, box in by_people.items())
            machine = [boxes[item["objectHash"]] for item in stands if not item["manualAnnotation"]]
            counts = [sum(_close(box, found.box_xyxy_norm) for box in machine) for found in find(key)]
            self.model_objects += sum(counts)
            self.doubled += sum(max(0, count - 1) for count in counts)
            left = bool(by_people) and not machine and data_hash not in waiting
            self.frames_to_people += left
            self.frames_lost += not left and (data_hash in waiting or 0 in counts)


def _close(box_xywh: list[float], box_xyxy: tuple[float, float, float, float]) -> bool:
    x, y, w, h = box_xywh
    return all(abs(a - b) < TOLERANCE for a, b in zip((x, y, x + w, y + h), box_xyxy, strict=True))


@contextmanager
def _fresh() -> Iterator[tuple[World, Path]]:
    """A project and an empty home."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with open_world(Path(folder) / "sandbox", ROWS, Shape.BOUNDING_BOX, pictures=True) as world:
            yield world, home


def undisturbed_s(tool: Tool) -> float:
    """What the job takes when nothing happens; a harness under which that goes wrong would prove nothing."""
    calm = Outcome(tool.name)
    with _fresh() as (world, home):
        began_s = time.monotonic()
        exit_code = tool.start(world, home).wait()
        took_s = time.monotonic() - began_s
        calm.judge(world, {})
        if exit_code or calm.frames_lost or calm.doubled or calm.model_objects != 5 * ROWS:
            raise SystemExit(f"undisturbed it failed: {calm}\n{(home / 'output.txt').read_text()[-3000:]}")
    return took_s


def disturb(tool: Tool, seed: int, outcome: Outcome) -> None:
    with _fresh() as (world, home):
        world.admin("POST", "faults", plan_faults(seed))
        with People(world, seed) as people:
            runs: Runs = run_until(
                lambda: tool.start(world, home), lambda: not world.waiting(), plan_kills(seed, outcome.undisturbed_s)
            )
        outcome.judge(world, people.drawn)
    outcome.kills += runs.kills
    outcome.disturbed_s += runs.wall_s
    outcome.exits.update(runs.exits)


COLUMNS: dict[str, Callable[[Outcome], str]] = {
    "": lambda it: f"`{it.tool}`",
    "human objects overwritten": lambda it: f"**{it.overwritten}** of {it.human_objects}",
    "objects doubled": lambda it: f"**{it.doubled}** of {it.model_objects}",
    "frames lost": lambda it: f"**{it.frames_lost}** of {it.frames}",
    "left to people": lambda it: str(it.frames_to_people),
    "kill -9, faults met": lambda it: f"{it.kills}, {it.faults_met}",
    "exit codes": lambda it: ", ".join(f"{code} ({times}x)" for code, times in sorted(it.exits.items())),
    "undisturbed / disturbed": lambda it: f"{it.undisturbed_s:.1f} s / {it.disturbed_s:.1f} s",
}


def as_table(rows: list[Outcome]) -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    arguments.add_argument("--out", type=Path, default=Path("compare.json"), help="where the figures go as JSON")
    wanted = arguments.parse_args()
    outcomes: list[Outcome] = []
    for tool in tools():
        outcome = Outcome(tool.name, undisturbed_s=undisturbed_s(tool))
        for seed in wanted.seeds:
            disturb(tool, seed, outcome)
            print(f"{tool.name}: seed {seed} done", file=sys.stderr)
        outcomes.append(outcome)
    found: dict[str, Any] = {"rows": ROWS, "seeds": wanted.seeds, "tools": [vars(outcome) for outcome in outcomes]}
    wanted.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{ROWS} frames, seeds {' '.join(map(str, wanted.seeds))}, 2 CPU cores\n")
    print(as_table(outcomes))


if __name__ == "__main__":
    main()
