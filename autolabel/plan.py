"""What a run would do, row by row, and what it would cost. Looks only: nothing is created or changed anywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autolabel.core.rows import Context, Destination, LabelRow, Project, Reason, in_queue_order, reason_to_leave
from autolabel.errors import PermanentMediaError, PermanentUsageError, TransientError
from autolabel.ledger import Job, Ledger, Record, State
from autolabel.protocols import Inference, Source
from autolabel.recipe import Recipe

PROBE_ROWS = 3


@dataclass(frozen=True)
class Options:
    """How one run works; none of it changes an answer.

    - `limit`: most rows taken up in this run; None for all.
    - `only`: data hashes to which the run is restricted; None for the whole project.
    - `pathways`: outcome (`labelled`, `empty`, `failed`) -> pathway name at the Agent stage, where named.
    """

    destination: Destination = Destination.MAIN
    dataset: str | None = None
    limit: int | None = None
    only: frozenset[str] | None = None
    retry_failed: bool = False
    batch_rows: int = 8
    write_rows: int = 20
    download_threads: int = 4
    pathways: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Every row of the project once: `todo`, `beyond_limit`, `done`, `left_alone` and `set_aside` add up to `total`.

    - `records`: what the ledger knows of each row; `stored`: rows whose detections it holds already.
    - `pathways`: outcome -> pathway uuid at the Agent stage; empty where the workflow has none.
    """

    project: Project
    job: Job
    todo: tuple[LabelRow, ...]
    beyond_limit: int
    done: int
    left_alone: tuple[tuple[LabelRow, Reason], ...]
    set_aside: tuple[tuple[LabelRow, str], ...]
    records: Mapping[str, Record]
    stored: frozenset[str]
    pathways: Mapping[str, str]

    @property
    def total(self) -> int:
        return len(self.todo) + self.beyond_limit + self.done + len(self.left_alone) + len(self.set_aside)

    @property
    def to_infer(self) -> tuple[LabelRow, ...]:
        return tuple(row for row in self.todo if row.data_hash not in self.stored)

    @property
    def at_agent_stage(self) -> tuple[LabelRow, ...]:
        """Rows whose task this run moves on, whatever becomes of them: people must never wait for a machine."""
        stage = self.project.workflow.agent_stage
        if stage is None or self.job.destination != Destination.MAIN:
            return ()
        rows = (*self.todo, *(row for row, _ in self.left_alone))
        return tuple(row for row in rows if row.stage_uuid == stage.uuid and row.assigned_to is None)


def make_plan(source: Source, ledger: Ledger, project: Project, recipe: Recipe, options: Options) -> Plan:
    """Judge every label row.

    Raises PermanentUsageError for a workflow that cannot be served safely, or pathways that do not fit it.
    """
    pathways = _choose_pathways(project, options.pathways)
    if project.workflow.has_consensus:
        raise PermanentUsageError(
            f"project {project.title!r} has consensus stages; whether their branches inherit `main` is not known, so "
            "pre-labels could reach one annotator and not another. Nothing was changed; use a project without them"
        )
    job = Job(project.project_hash, recipe.id, options.destination)
    records = ledger.records(job)
    rows = in_queue_order(source.rows(options.dataset))
    if options.only is not None:
        rows = [row for row in rows if row.data_hash in options.only]
    if not rows:
        raise PermanentUsageError(f"project {project.title!r} has no label rows{_in_dataset(options)}; nothing to do")
    context = _context(source, ledger, project, recipe, [row for row in rows if not _settled(records, row)])
    done, todo, left, aside = 0, [], [], []
    for row in rows:
        record = records.get(row.data_hash)
        if record and record.state == State.DONE:
            done += 1
        elif record and record.state == State.SET_ASIDE and not options.retry_failed:
            aside.append((row, record.reason or ""))
        elif not _settled(records, row) and (reason := reason_to_leave(row, context)):
            left.append((row, reason))
        else:
            todo.append(row)
    taken = todo[: options.limit]
    return Plan(
        project=project,
        job=job,
        todo=tuple(taken),
        beyond_limit=len(todo) - len(taken),
        done=done,
        left_alone=tuple(left),
        set_aside=tuple(aside),
        records=records,
        stored=ledger.stored(recipe.id),
        pathways=pathways,
    )


def _settled(records: Mapping[str, Record], row: LabelRow) -> bool:
    """Done, or a write may have left: then `main` may hold our own labels, and the sink's read-back decides."""
    record = records.get(row.data_hash)
    return record is not None and record.state in (State.DONE, State.INTENT, State.WRITTEN)


def _context(source: Source, ledger: Ledger, project: Project, recipe: Recipe, rows: list[LabelRow]) -> Context:
    return Context(
        workflow=project.workflow,
        contents=source.contents([row for row in rows if row.label_hash]),
        ours=ledger.our_hashes(project.project_hash),
        skipped=source.skipped(),
        hashes_of_recipe=recipe.object_hashes,
    )


def _in_dataset(options: Options) -> str:
    return f" in a dataset called {options.dataset!r}" if options.dataset else ""


def _choose_pathways(project: Project, named: Mapping[str, str | None]) -> dict[str, str]:
    stage = project.workflow.agent_stage
    if stage is None:
        return {}
    by_title = {way.title: way.uuid for way in stage.pathways}
    chosen: dict[str, str] = {}
    for outcome in ("labelled", "empty", "failed"):
        title = named.get(outcome) or (next(iter(by_title)) if len(by_title) == 1 else "")
        if title not in by_title:
            raise PermanentUsageError(
                f"Agent stage {stage.title!r} needs a pathway for rows that end {outcome}: set "
                f"AUTOLABEL_PATHWAYS__{outcome.upper()} to one of: {', '.join(sorted(by_title))}. Nothing was changed"
            )
        chosen[outcome] = by_title[title]
    return chosen


def seconds_per_frame(plan: Plan, source: Source, inference: Inference, spool: Path) -> float | None:
    """Time a few rows through download and inference, after a warm-up. None when that row cannot be run."""
    rows = plan.to_infer[:PROBE_ROWS]
    if not rows:
        return 0.0
    try:
        inference.infer(source.download(rows[0], spool))
        started, frames = time.perf_counter(), 0
        for row in rows[1:] or rows:
            inference.infer(source.download(row, spool))
            frames += row.frames
    except (PermanentMediaError, TransientError):
        return None
    return (time.perf_counter() - started) / frames
