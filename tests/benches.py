"""A ledger and an in-memory platform over which pushes are made one after the other."""

from __future__ import annotations

from pathlib import Path

from autolabel.core.rows import LabelRow
from autolabel.plan import Options, Plan, make_plan
from autolabel.recipe import Recipe
from autolabel.states import Job, State
from autolabel.sync import Ports, Run
from ledgers import open_ledger
from platform_fakes import (
    AGENT,
    ANNOTATE,
    DONE,
    RECIPE,
    REVIEW,
    FakeGallery,
    FakePlatform,
    ScriptedInference,
    make_project,
    make_row,
)


class Bench:
    """A ledger and a platform over which runs are made one after the other."""

    def __init__(
        self,
        folder: Path,
        platform: FakePlatform,
        inference: ScriptedInference | None = None,
        recipe: Recipe = RECIPE,
        *,
        alive: bool = False,
    ) -> None:
        self.now_s = 12.0
        self.ledger = open_ledger(folder, alive=alive, clock=lambda: self.now_s)
        self.platform = platform
        self.inference = inference or ScriptedInference()
        self.folder = folder
        self.recipe = recipe
        self.runs = 0
        self.gallery = FakeGallery()

    def plan(self, **options: object) -> Plan:
        return make_plan(
            self.platform,
            self.ledger,
            self.platform.project(),
            self.recipe,
            Options(**options),  # type: ignore[arg-type]
        )

    def push(self, **options: object) -> Run:
        self.runs += 1
        ports = Ports(
            self.platform, self.platform, self.ledger, self.inference, self.folder, clock=lambda: self.now_s
        )
        run = Run(self.plan(**options), self.recipe, ports, f"run-{self.runs}", self.gallery)
        self.last = run
        run.execute(Options(**options), lambda tally: None)  # type: ignore[arg-type]
        return run

    def states(self, destination: str = "main") -> dict[str, State]:
        job = Job("project-1", self.recipe.id, destination)
        return {key: record.state for key, record in self.ledger.records(job).items()}


def rows(count: int) -> list[LabelRow]:
    return [make_row(f"row-{i:02}") for i in range(count)]


def adds_up(run: Run) -> bool:
    summary = run.summary()
    parts = ("labelled", "empty", "done_before", "pending")
    ends = sum(sum(summary[part].values()) for part in ("left_alone", "set_aside", "elsewhere"))
    return bool(sum(summary[part] for part in parts) + ends == summary["total"])


def agent_platform(*rows: LabelRow) -> FakePlatform:
    return FakePlatform(rows, make_project(AGENT, ANNOTATE, REVIEW, DONE))


def waiting(name: str, **changes: object) -> LabelRow:
    return make_row(name, **{"stage_uuid": AGENT.uuid, **changes})
