"""What safety costs: commits, requests and milliseconds a row, and rows a second beside `encord-agents`.

Models and media cost nothing here, on either side. The tools take turns, and of each the quickest of its
rounds counts: what else the machine does slows all of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encord.objects import Shape

from autolabel.core.rows import Destination
from benching.world import open_world

ROWS = 200
ROUNDS = 3
SHAPES = {"5 boxes": Shape.BOUNDING_BOX, "5 polygons of 60 points": Shape.POLYGON}

Figures = dict[str, Any]
OURS = {
    f"autolabel --to {destination}": ["-m", "benching.delivery", "--to", destination]
    for destination in Destination
    if destination != Destination.BRANCH
}
TOOLS = OURS | {
    f"encord-agents, {saves} saves": ["-m", "benching.agent", "--saves", saves] for saves in ("batched", "single")
}


def measure(arguments: list[str], rows: int, shape: Shape) -> Figures:
    """What a process says of itself that does the whole job on a fresh project."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_world(Path(folder) / "sandbox", rows, shape, pictures=False) as world,
    ):
        done = subprocess.run(
            [sys.executable, *arguments, "--project", world.project],
            env={**os.environ, **world.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or world.waiting():
            raise SystemExit(f"{arguments} did not do the job:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures | {"rows": rows}


def quickest(rows: int, tools: dict[str, list[str]], shape: Shape) -> dict[str, Figures]:
    """Each tool's best round."""
    rounds = [{name: measure(arguments, rows, shape) for name, arguments in tools.items()} for _ in range(ROUNDS)]
    return {name: min((figures[name] for figures in rounds), key=lambda it: float(it["wall_s"])) for name in tools}


def throughput(found: dict[str, dict[str, Figures]]) -> Iterator[str]:
    """Rows a second, by tool and shape, as a Markdown table."""
    yield f"| rows a second; CPU ms a row | {' | '.join(found)} |"
    yield f"| --- |{' --- |' * len(found)}"
    for tool in TOOLS:
        cells = [
            f"{it['rows'] / it['wall_s']:.0f}; {it['cpu_s'] / it['rows'] * 1000:.1f}"
            for it in (figures[tool] for figures in found.values())
        ]
        yield f"| `{tool}` | {' | '.join(cells)} |"


def one_row(alone: dict[str, Figures], together: dict[str, Figures]) -> Iterator[str]:
    """What one row of 5 boxes costs us, as a Markdown table."""
    yield "| one row of 5 boxes | SQL commits | HTTP requests | ms | in the SDK | waiting for the server | SQL |"
    yield f"|{' --- |' * 7}"
    for name, found in [(tool, figures[tool]) for tool in OURS for figures in (alone, together)]:
        rows, shares = found["rows"], found["shares"]
        per_row = [found["commits"] / rows, sum(found["requests"].values()) / rows, found["wall_s"] / rows * 1000]
        parts = [shares.get(part, 0) for part in ("SDK", "server", "SQL")]
        how = "alone" if rows == 1 else f"one of {rows}"
        cells = [*(f"{figure:.3g}" for figure in per_row), *(f"{part:.0%}" for part in parts)]
        yield f"| `{name}`, {how} | {' | '.join(cells)} |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=Path("cost.json"), help="where the figures go as JSON")
    wanted = arguments.parse_args()
    many = {name: quickest(ROWS, TOOLS, shape) for name, shape in SHAPES.items()}
    alone = quickest(1, OURS, Shape.BOUNDING_BOX)
    wanted.out.write_text(json.dumps({"many": many, "alone": alone}, indent=2) + "\n")
    print("\n".join([*throughput(many), "", *one_row(alone, next(iter(many.values())))]))


if __name__ == "__main__":
    main()
