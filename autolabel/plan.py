"""What a run would do, row by row, and what it would cost. Looks only: nothing is created or changed anywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from autolabel.core.rows import (
    Context,
    Destination,
    LabelRow,
    Project,
    Reason,
    Stage,
    in_queue_order,
    reason_to_leave,
)
from autolabel.errors import PermanentInferenceError, PermanentMediaError, PermanentUsageError, TransientError
from autolabel.ledger import Job, Ledger, Record, State
from autolabel.protocols import ClipFailure, Inference, Source
from autolabel.recipe import Recipe

PROBE_ROWS = 3
PROBE_FRAMES = 4


@dataclass(frozen=True)
class Options:
    """How one run works; none of it changes an answer.

    - `limit`: most rows taken up in this run; None for all.
    - `only`: data hashes to which the run is restricted; None for the whole project.
    - `holdout`: share of data units, in [0, 1], that is left to people as it is.
    - `agent_stage`: title of the Agent stage that is ours. Without one it is the only stage that hands over to the
      first annotators, and tasks there on whose rows something stands already are not moved: a later stage may send
      work back through it.
    - `pathways`: outcome (`labelled`, `empty`, `failed`) -> pathway name at that stage, where named.
    """

    destination: Destination = Destination.MAIN
    dataset: str | None = None
    limit: int | None = None
    only: frozenset[str] | None = None
    retry_failed: bool = False
    batch_frames: int = 8
    write_rows: int = 20
    download_threads: int = 4
    holdout: float = 0.0
    agent_stage: str | None = None
    pathways: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Every row of the project once: `todo`, `beyond_limit`, `done`, `left_alone` and `set_aside` add up to `total`.

    - `gone`: data hashes of unfinished rows of the ledger that the project no longer lists.
    - `records`: what the ledger knows of each row; `stored`: rows whose detections it holds already.
    - `on_branch`: rows that our branch got before.
    - `agent_stage`: the Agent stage whose tasks this run moves on; None where there is none, or not on this run.
    - `pathways`: outcome -> pathway uuid there.
    - `handed_over`: (row, outcome) of tasks there that are moved on although there is nothing to label.
    """

    project: Project
    job: Job
    todo: tuple[LabelRow, ...]
    beyond_limit: int
    done: tuple[LabelRow, ...]
    left_alone: tuple[tuple[LabelRow, Reason], ...]
    set_aside: tuple[tuple[LabelRow, str], ...]
    gone: tuple[str, ...]
    records: Mapping[str, Record]
    stored: frozenset[str]
    on_branch: frozenset[str]
    agent_stage: Stage | None
    pathways: Mapping[str, str]
    handed_over: tuple[tuple[LabelRow, str], ...]

    @property
    def total(self) -> int:
        return len(self.todo) + self.beyond_limit + len(self.done) + len(self.left_alone) + len(self.set_aside)

    @property
    def to_infer(self) -> tuple[LabelRow, ...]:
        return tuple(row for row in self.todo if row.data_hash not in self.stored)

    def is_at_agent_stage(self, row: LabelRow) -> bool:
        return self.agent_stage is not None and row.stage_uuid == self.agent_stage.uuid and row.assigned_to is None

    @property
    def tasks_to_move(self) -> int:
        return sum(map(self.is_at_agent_stage, self.todo)) + len(self.handed_over)

    @property
    def is_idle(self) -> bool:
        """Nothing to label and no task to hand over."""
        return not self.todo and not self.handed_over


@dataclass
class _Sorted:
    """Rows by what is to become of them, in the queue's order."""

    todo: list[LabelRow] = field(default_factory=list)
    done: list[LabelRow] = field(default_factory=list)
    left: list[tuple[LabelRow, Reason]] = field(default_factory=list)
    aside: list[tuple[LabelRow, str]] = field(default_factory=list)


def make_plan(source: Source, ledger: Ledger, project: Project, recipe: Recipe, options: Options) -> Plan:
    """Judge every label row.

    Raises PermanentUsageError for a workflow that cannot be served safely, or pathways that do not fit it.
    """
    if project.workflow.has_consensus:
        raise PermanentUsageError(
            f"project {project.title!r} has consensus stages; whether their branches inherit `main` is not known, so "
            "pre-labels could reach one annotator and not another. Nothing was changed; use a project without them"
        )
    stage = find_agent_stage(project, options.agent_stage)
    job = Job(project.project_hash, recipe.id, options.destination)
    records = ledger.records(job)
    listed = in_queue_order(source.rows(options.dataset))
    if options.dataset and not listed:
        raise PermanentUsageError(f"project {project.title!r} has no dataset called {options.dataset!r}")
    rows = [row for row in listed if options.only is None or row.data_hash in options.only]
    context = _context(source, ledger, project, recipe, stage, [row for row in rows if not _settled(records, row)])
    undone = ledger.undone(project.project_hash, recipe.id)
    context = replace(context, holdout=options.holdout)
    found = _sort(rows, records, context, undone, retry_failed=options.retry_failed)
    taken = found.todo[: options.limit]
    mine = stage if options.destination == Destination.MAIN else None
    handed_over = _handed_over(found, mine, everything=options.agent_stage is not None)
    moving = handed_over or any(mine is not None and row.stage_uuid == mine.uuid for row in taken)
    unfiltered = options.dataset is None and options.only is None
    return Plan(
        project=project,
        job=job,
        todo=tuple(taken),
        beyond_limit=len(found.todo) - len(taken),
        done=tuple(found.done),
        left_alone=tuple(found.left),
        set_aside=tuple(found.aside),
        gone=_gone(records, listed) if unfiltered else (),
        records=records,
        stored=ledger.stored(recipe.id),
        on_branch=ledger.written_to(job, recipe.branch),
        agent_stage=mine,
        pathways=choose_pathways(mine, options.pathways) if mine is not None and moving else {},
        handed_over=handed_over,
    )


def _sort(
    rows: Sequence[LabelRow],
    records: Mapping[str, Record],
    context: Context,
    undone: frozenset[str],
    *,
    retry_failed: bool,
) -> _Sorted:
    found = _Sorted()
    for row in rows:
        record = records.get(row.data_hash)
        if record and record.state == State.DONE:
            found.done.append(row)
        elif row.data_hash in undone:
            found.left.append((row, Reason.UNDONE))
        elif record and record.state == State.SET_ASIDE and not retry_failed:
            found.aside.append((row, record.reason or ""))
        elif not _settled(records, row) and (reason := reason_to_leave(row, context)):
            found.left.append((row, reason))
        else:
            found.todo.append(row)
    return found


def _settled(records: Mapping[str, Record], row: LabelRow) -> bool:
    """Done; or our write may have left and `main` holds something: the sink reads it back and decides whose it is."""
    record = records.get(row.data_hash)
    if record is None:
        return False
    return record.state == State.DONE or (
        record.state in (State.INTENT, State.WRITTEN) and row.label_hash is not None
    )


def _context(
    source: Source, ledger: Ledger, project: Project, recipe: Recipe, stage: Stage | None, rows: list[LabelRow]
) -> Context:
    waiting = (project.workflow.first_human_stage, stage)
    return Context(
        waiting_stages=frozenset(item.uuid for item in waiting if item is not None),
        contents=source.contents([row for row in rows if row.label_hash]),
        recipe_id=recipe.id,
        ours=ledger.our_hashes(project.project_hash),
        skipped=source.skipped(),
        named_by_recipe=recipe.can_have_named,
    )


def find_agent_stage(project: Project, named: str | None) -> Stage | None:
    """The Agent stage that is ours, if any. Raises PermanentUsageError where one is named that is not there."""
    stage = project.workflow.agent_stage(named)
    if stage is None and named is not None:
        titles = ", ".join(repr(item.title) for item in project.workflow.stages if item.kind == "AGENT") or "none"
        raise PermanentUsageError(
            f"project {project.title!r} has no Agent stage called {named!r} (AUTOLABEL_AGENT_STAGE); "
            f"it has {titles}. Nothing was changed"
        )
    return stage


def _handed_over(found: _Sorted, stage: Stage | None, *, everything: bool) -> tuple[tuple[LabelRow, str], ...]:
    """Tasks at our Agent stage with nothing for us to do: people are the fallback and must not wait for ever."""
    if stage is None:
        return ()
    ends = [
        *((row, "labelled" if row.label_hash else "empty") for row in found.done),
        *((row, "failed") for row, _ in found.aside),
        *((row, pathway_of(reason)) for row, reason in found.left if everything or row.label_hash is None),
    ]
    return tuple((row, way) for row, way in ends if row.stage_uuid == stage.uuid and row.assigned_to is None)


def pathway_of(reason: Reason) -> str:
    """Which pathway a row takes that was left alone: `labelled` where labels stand, `empty` where none do."""
    if reason in (Reason.HUMAN_CONTENT, Reason.OURS_THIS_RECIPE, Reason.OURS_OTHER_RECIPE):
        return "labelled"
    return "empty" if reason in (Reason.HAS_ROW_EMPTY, Reason.HOLDOUT, Reason.UNDONE) else "failed"


def _gone(records: Mapping[str, Record], listed: Sequence[LabelRow]) -> tuple[str, ...]:
    ends = (State.DONE, State.SET_ASIDE, State.LEFT_ALONE)
    here = {row.data_hash for row in listed}
    return tuple(key for key, record in records.items() if record.state not in ends and key not in here)


def choose_pathways(stage: Stage, named: Mapping[str, str | None]) -> dict[str, str]:
    """Outcome -> uuid of the pathway that its tasks take. Raises PermanentUsageError where that is not clear."""
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


def seconds_per_frame(plan: Plan, recipe: Recipe, source: Source, inference: Inference, spool: Path) -> float | None:
    """Time some frames of a few short rows through download and inference, after a warm-up. None when any fail."""
    rows = sorted((row for row in plan.to_infer if row.frames), key=lambda row: row.frames)[:PROBE_ROWS]
    if not rows:
        return 0.0
    try:
        probe = partial(_probe, recipe, source, inference, spool)
        probe(rows[0])
        started = time.perf_counter()
        frames = sum(probe(row) for row in rows[1:] or rows)
    except (PermanentMediaError, PermanentInferenceError, TransientError):
        return None
    return (time.perf_counter() - started) / frames if frames else None


def _probe(recipe: Recipe, source: Source, inference: Inference, spool: Path, row: LabelRow) -> int:
    """Infer a row's first frames, as far apart as a run takes them, and say how many. Raises what the answer says."""
    step = max(1, row.frames // recipe.frame_count(row)) if row.is_video else 1
    spooled = source.download(row, spool)
    try:
        clips = [
            replace(clip, frame_indices=clip.frame_indices[::step][:PROBE_FRAMES]) for clip in spooled[:PROBE_FRAMES]
        ]
        for answer in inference.infer(clips):
            if isinstance(answer, ClipFailure):
                raise PermanentMediaError(answer.reason, answer.message)
    finally:
        for clip in spooled:
            clip.path.unlink()
    return sum(len(clip.frame_indices) for clip in clips)
