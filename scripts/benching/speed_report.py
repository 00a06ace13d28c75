"""The figures of a run: what is kept as JSON, and the Markdown table. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from autolabel.models.placement import Precision

MODEL_STAGES = ("detect", "segment", "convert")
ENDS = ("from files", "from MP4")
PUBLIC, REFERENCE, OURS, COMPILED = "public recipe", "ours, --reference", "ours", "ours, compiled"


@dataclass(frozen=True)
class Cost:
    """`peak_bytes`: most that was allocated beyond what was held before; resident memory on the CPU."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Case:
    """`rounds`: how often everything is measured; `ends`: also from files and from an MP4."""

    pair: str
    width_px: int
    height_px: int
    boxes: int
    batch: int
    precision: Precision
    rounds: int = 5
    ends: bool = True

    def __str__(self) -> str:
        size = f"{self.width_px}x{self.height_px}"
        return f"{self.pair}, {size}, {self.boxes} boxes, batch {self.batch}, {self.precision}"


@dataclass(frozen=True)
class Agreement:
    """How far an answer is from another one's.

    - `boxes`: how many distinct ones this one found.
    - `box_error_norm`: of those the largest distance from the other's nearest, in fractions of the frame.
    - `mask_iou`: the least of all masks, each within its window.
    """

    boxes: int
    box_error_norm: float
    mask_iou: float


@dataclass(frozen=True)
class Piece:
    """One step by itself, the public recipe's way and ours; `goal`: how many times cheaper ours was to become."""

    name: str
    goal: float | None
    theirs: list[Cost]
    ours: list[Cost]
    agreement: str = ""


@dataclass
class Figures:
    """What one contestant took.

    - `costs`: stage -> the cost of each round, for all `frames` of a call; `flops` likewise, 0 if not counted.
    - `agreements`: with each contestant before it, by name.
    """

    name: str
    frames: int
    flops: int
    costs: dict[str, list[Cost]] = field(default_factory=dict)
    agreements: dict[str, Agreement] = field(default_factory=dict)

    def add(self, stage: str, cost: Cost) -> None:
        self.costs.setdefault(stage, []).append(cost)

    def per_frame(self, stage: str, of: Callable[[Cost], float]) -> float:
        return median(of(cost) for cost in self.costs[stage]) / self.frames

    def models(self, of: Callable[[Cost], float]) -> float:
        """From pictures in memory to labels, a frame."""
        return sum(self.per_frame(stage, of) for stage in MODEL_STAGES)


@dataclass
class Report:
    """All that a run found.

    - `clock`: what counts as time here. Wall time on a GPU; on the CPU the process's own, since others share it.
    - `cases`: each with every contestant's figures, or with the reason why it has none.
    """

    device: str
    clock: Literal["wall", "cpu"]
    threads: int
    versions: dict[str, str]
    matrix_flops_per_s: dict[str, float] = field(default_factory=dict)
    cases: list[tuple[Case, list[Figures] | str]] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def seconds(self, cost: Cost) -> float:
        return cost.wall_s if self.clock == "wall" else cost.cpu_s

    def lines(self) -> Iterator[str]:
        """The table; what is found later stands further down."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        yield f"{self.device}; {self.threads} threads; {versions}. Milliseconds a frame, {self.clock} time, medians."
        for case, figures in self.cases:
            left_out = [f"**{case}**: left out, {figures}"]
            yield from ["", *(left_out if isinstance(figures, str) else self._case(case, figures))]
        if self.pieces:
            yield from ["", *self._pieces()]

    def _case(self, case: Case, figures: list[Figures]) -> Iterator[str]:
        by_name = {it.name: it for it in figures}
        flops = by_name[REFERENCE].flops / case.batch
        rate = self.matrix_flops_per_s[case.precision]
        yield (
            f"**{case}**: {flops / 1e9:.0f} GFLOP a frame ({by_name[OURS].flops / case.batch / 1e9:.0f} in ours) at "
            f"{rate / 1e12:.3g} TFLOP/s: floor {1000 * flops / rate:.3g} ms"
        )
        yield ""
        stages = [*MODEL_STAGES, *(ENDS if case.ends else ())]
        more = [
            "frames/s",
            "CPU s a frame",
            "memory",
            "of the floor",
            "against the recipe",
            "at most off by, at least IoU",
        ]
        yield f"| | {' | '.join([*stages, *more])} |"
        yield f"|{' --- |' * (len(stages) + len(more) + 1)}"
        for it in figures:
            ms = [f"{1000 * it.per_frame(stage, self.seconds):.3g}" for stage in stages]
            yield f"| {' | '.join([it.name, *ms, *self._more(it, by_name, case, flops / rate)])} |"

    def _more(self, it: Figures, by_name: dict[str, Figures], case: Case, floor_s: float) -> Iterator[str]:
        """`frames/s` and the ratio are of the whole way from files where that was measured, else of the models."""

        def whole(one: Figures, of: Callable[[Cost], float]) -> float:
            return one.per_frame("from files", of) if case.ends else one.models(of)

        yield f"{1 / whole(it, lambda cost: cost.wall_s):.3g}"
        yield f"{whole(it, lambda cost: cost.cpu_s):.3g}"
        yield f"{max(cost.peak_bytes for costs in it.costs.values() for cost in costs) / (1 << 20):.0f} MiB"
        yield f"{floor_s / it.models(self.seconds):.0%}"
        yield f"{whole(by_name[PUBLIC], self.seconds) / whole(it, self.seconds):.2f}x"
        yield "; ".join(
            f"{name}: {by.boxes} boxes {by.box_error_norm:.1g}, IoU {by.mask_iou:.5f}"
            for name, by in it.agreements.items()
        )

    def _pieces(self) -> Iterator[str]:
        yield "| by itself | public recipe, ms | ours, ms | times cheaper | goal | agreement |"
        yield f"|{' --- |' * 6}"
        for piece in self.pieces:
            theirs, ours = (1000 * median(map(self.seconds, costs)) for costs in (piece.theirs, piece.ours))
            goal = "" if piece.goal is None else f"{piece.goal:g}"
            cells = [piece.name, f"{theirs:.3g}", f"{ours:.3g}", f"**{theirs / ours:.1f}**", goal]
            yield f"| {' | '.join([*cells, piece.agreement])} |"


def publish(growing: Iterable[Report], out: Path) -> None:
    """Prints what each report says beyond the one before it, and keeps it in `out`, before asking for the next."""
    printed = 0
    for report in growing:
        lines = list(report.lines())
        print(*lines[printed:], sep="\n", flush=True)
        printed = len(lines)
        out.write_text(json.dumps(asdict(report), indent=2) + "\n")
