"""What a run would do, row by row, and what it would cost. Looks only: nothing is created or changed anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial

from autolabel.core.assemble import Assembly, assemble, with_confidence
from autolabel.core.limits import DAY_S, Limit, Room
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
from autolabel.errors import PermanentUsageError
from autolabel.ledger import Ledger
from autolabel.protocols import Source
from autolabel.recipe import Recipe
from autolabel.routes import Route, check_way_back, choose_pathways, find_route
from autolabel.states import BEGUN, SETTLED, Job, Landed, Record, State
from autolabel.tracking import BoxTracker, by_class

LOOK_AGAIN_S = 600.0
"""From when on a row that is done is looked at again once it changes: editor tabs from before have saved by then."""


@dataclass(frozen=True)
class Options:
    """How one run works; none of it changes an answer.

    - `limit`: most rows taken up in this run; None for all.
    - `only`: data hashes to which the run is restricted; None for the whole project.
    - `holdout`: share of data units, in [0, 1], that is left to people as it is.
    - `destination`: None for `agent-stage` where one stage is ours, else `main`.
    - `agent_stage`: title of the Agent stage that is ours. Without one it is the only stage that hands over to the
      first annotators, and tasks there on whose rows something stands already are not moved: a later stage may send
      work back through it.
    - `pull_from`: title of the annotation stage whose new tasks are moved to the Agent stage, labelled and sent on.
    - `include_assigned`: whether `main` takes tasks that a person is assigned to, while nobody opened their row.
    - `pathways`: outcome (`labelled`, `empty`, `failed`) -> pathway name at that stage, where named.
    - `until_s`: from when on nothing new is taken up, in seconds since 1970.
    - `max_objects_a_day`: most objects written to the project in any 24 hours.
    - `max_waiting`: most pre-labelled rows that wait for the first annotators; rows on a branch do not.
    """

    destination: Destination | None = None
    dataset: str | None = None
    limit: int | None = None
    only: frozenset[str] | None = None
    retry_failed: bool = False
    batch_frames: int = 8
    write_rows: int = 50
    download_threads: int = 16
    holdout: float = 0.0
    agent_stage: str | None = None
    pull_from: str | None = None
    include_assigned: bool = False
    pathways: Mapping[str, str | None] = field(default_factory=dict)
    until_s: float = math.inf
    max_objects_a_day: int | None = None
    max_waiting: int | None = None


@dataclass(frozen=True)
class Plan:
    """Every row once: `todo`, `beyond_limit`, `held_back`, `done`, `left_alone` and `set_aside` add up to `total`.

    - `held_back`: rows that could be labelled and are left to a later run, by limit; `notes` explain it.
    - `gone`: data hashes of unfinished rows of the ledger that the project no longer lists.
    - `records`: what the ledger knows of each row; `stored`: rows whose detections it holds already.
    - `why`: in words, what decided the destination.
    - `agent_stage`: the Agent stage whose tasks this run moves on; None where there is none, or not on this run.
    - `pull_from`: the annotation stage from which tasks are moved there.
    - `pathways`: outcome -> pathway uuid there.
    - `noted`: data hash -> until when the changes of a row that is done have been looked at; see `LabelRow`.
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
    why: str
    agent_stage: Stage | None
    pull_from: Stage | None
    include_assigned: bool
    pathways: Mapping[str, str]
    handed_over: tuple[tuple[LabelRow, str], ...]
    noted: Mapping[str, float | None]
    held_back: Mapping[Limit, int]
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        waiting = len(self.todo) + self.beyond_limit + sum(self.held_back.values())
        return waiting + len(self.done) + len(self.left_alone) + len(self.set_aside)

    @property
    def to_infer(self) -> tuple[LabelRow, ...]:
        return tuple(row for row in self.todo if row.data_hash not in self.stored)

    def is_at_agent_stage(self, row: LabelRow) -> bool:
        return self.agent_stage is not None and row.stage_uuid == self.agent_stage.uuid and row.assigned_to is None

    def is_pulled(self, row: LabelRow) -> bool:
        return self.pull_from is not None and row.stage_uuid == self.pull_from.uuid

    @property
    def tasks_to_pull(self) -> int:
        return sum(map(self.is_pulled, self.todo))

    @property
    def tasks_to_move(self) -> int:
        return sum(map(self.is_at_agent_stage, self.todo)) + self.tasks_to_pull + len(self.handed_over)

    @property
    def is_idle(self) -> bool:
        """Nothing to label and no task to hand over."""
        return not self.todo and not self.handed_over

    @property
    def news(self) -> dict[str, Reason]:
        """Why rows are left alone of which the ledger does not know it yet, by data hash."""
        left = {row.data_hash: why for row, why in self.left_alone if self._left_for(row) != why}
        return left | dict.fromkeys(self.gone, Reason.GONE)

    def _left_for(self, row: LabelRow) -> str | None:
        record = self.records.get(row.data_hash)
        return record.reason if record and record.state == State.LEFT_ALONE else None


@dataclass
class _Sorted:
    """Rows by what is to become of them, in the queue's order."""

    todo: list[LabelRow] = field(default_factory=list)
    done: list[LabelRow] = field(default_factory=list)
    left: list[tuple[LabelRow, Reason]] = field(default_factory=list)
    aside: list[tuple[LabelRow, str]] = field(default_factory=list)


def make_plan(
    source: Source,
    ledger: Ledger,
    project: Project,
    recipe: Recipe,
    options: Options,
) -> Plan:
    """Judge every label row.

    Raises PermanentUsageError for a workflow that cannot be served safely, or pathways that do not fit it.
    """
    route = find_route(project, options.destination, options.agent_stage, options.pull_from, options.include_assigned)
    job = Job(project.project_hash, recipe.id, route.destination)
    records = ledger.records(job)
    listed = in_queue_order(source.rows(options.dataset))
    if options.dataset and not listed:
        raise PermanentUsageError(f"project {project.title!r} has no dataset called {options.dataset!r}")
    rows = [row for row in listed if options.only is None or row.data_hash in options.only]
    context = _context(source, ledger, project, recipe, route, [row for row in rows if not _settled(records, row)])
    on_main = {} if route.destination == Destination.BRANCH else ledger.landed(project.project_hash)
    context = replace(
        context, landed=frozenset(on_main), holdout=options.holdout, include_assigned=options.include_assigned
    )
    again = _look_again(source, [row for row in rows if _is_done(records, row)], on_main)
    undone = ledger.undone(project.project_hash, recipe.id)
    found = _sort(rows, records, context, again, undone, retry_failed=options.retry_failed)
    mine = route.agent_stage if route.destination != Destination.BRANCH else None
    written = ledger.objects_within(project.project_hash, DAY_S) if options.max_objects_a_day else 0
    everywhere = source.rows() if options.dataset and options.max_waiting else listed
    room = replace(_room(project, route, options, everywhere, on_main, context.skipped), written=written)
    stored = ledger.stored(recipe.id)
    first_objects = partial(_first_objects, ledger, recipe, stored)
    todo, held_back = _take_up(found.todo[: options.limit], records, on_main, room, first_objects)
    plan = Plan(
        project=project,
        job=job,
        todo=todo,
        beyond_limit=len(found.todo[options.limit or len(found.todo) :]),
        held_back=held_back,
        notes=tuple(f"{room.explain(limit)}: {count} rows are held back" for limit, count in held_back.items()),
        done=tuple(found.done),
        left_alone=tuple(found.left),
        set_aside=tuple(found.aside),
        gone=_gone(records, listed) if options.dataset is None and options.only is None else (),
        records=records,
        stored=stored,
        why=route.why,
        agent_stage=mine,
        pull_from=route.pull_from,
        include_assigned=options.include_assigned,
        pathways={},
        noted={row.data_hash: row.edited_at_s for row, reason in again.items() if reason is None},
        handed_over=_handed_over(found, mine, records, everything=bool(options.agent_stage or options.pull_from)),
    )
    if mine is None or not plan.tasks_to_move:
        return plan
    pathways = choose_pathways(mine, options.pathways)
    if route.pull_from is not None:
        check_way_back(mine, pathways, project, route.pull_from)
    return replace(plan, pathways=pathways)


def assemble_stored(ledger: Ledger, recipe: Recipe, data_hash: str, samples_per_second: float | None) -> Assembly:
    """What a row's stored detections come to, confidences for scores; `samples_per_second`: of a video, or None."""
    follow = None if samples_per_second is None else by_class(partial(BoxTracker, samples_per_second))
    min_track = recipe.config.min_track if follow else 1
    stored = ledger.detections(recipe.id, data_hash)
    found = assemble(stored, recipe.shapes, recipe.id, data_hash, follow, min_track)
    return with_confidence(found, recipe.plan)


def _look_again(
    source: Source, done: Sequence[LabelRow], on_main: Mapping[str, Landed]
) -> dict[LabelRow, Reason | None]:
    """Rows that are done and have changed since: why they are none of ours any more, or None where some of it stands.

    Whatever people did with it is their decision; only where nothing of ours is left do we say so.
    """
    changed = [
        row
        for row in done
        if row.label_hash and (ours := on_main.get(row.data_hash)) and ours.objects and _has_changed(row, ours)
    ]
    contents = source.contents(changed)
    return {
        row: None if on_main[row.data_hash].objects & content.objects.keys() else Reason.REPLACED_BY_HUMAN
        for row in changed
        if (content := contents.get(row.data_hash)) is not None
    }


def _has_changed(row: LabelRow, ours: Landed) -> bool:
    return ours.age_s > LOOK_AGAIN_S and row.edited_at_s != ours.edited_at_s


def _sort(
    rows: Sequence[LabelRow],
    records: Mapping[str, Record],
    context: Context,
    again: Mapping[LabelRow, Reason | None],
    undone: frozenset[str],
    *,
    retry_failed: bool,
) -> _Sorted:
    found = _Sorted()
    for row in rows:
        record = records.get(row.data_hash)
        if reason := again.get(row) or _kept_reason(record):
            found.left.append((row, reason))
        elif record and record.state == State.DONE:
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


def _room(
    project: Project,
    route: Route,
    options: Options,
    rows: Sequence[LabelRow],
    on_main: Mapping[str, Landed],
    skipped: Set[str],
) -> Room:
    """What counts against the limits, `rows` being all of the project; nobody waits for what is on a branch."""
    stage = project.workflow.first_human_stage
    here = [row for row in rows if stage and row.stage_uuid == stage.uuid and row.data_hash not in skipped]
    waiting = sum(bool((landed := on_main.get(row.data_hash)) and landed.objects) for row in here)
    return Room(
        max_waiting=None if route.destination == Destination.BRANCH else options.max_waiting,
        waiting=waiting,
        stage=stage.title if stage else "",
        max_objects_a_day=options.max_objects_a_day,
    )


def _take_up(
    rows: Sequence[LabelRow],
    records: Mapping[str, Record],
    on_main: Mapping[str, Landed],
    room: Room,
    first_objects: Callable[[Sequence[LabelRow]], int],
) -> tuple[tuple[LabelRow, ...], dict[Limit, int]]:
    """Rows of which a write was announced come first, and no limit holds them: it may have landed."""
    is_begun = {key for key, record in records.items() if record.state in BEGUN}
    begun = [row for row in rows if row.data_hash in is_begun]
    fresh = [row for row in rows if row.data_hash not in is_begun]
    unseen = sum(row.data_hash not in on_main for row in begun)
    room = replace(room, waiting=room.waiting + unseen)
    held_back = room.hold_back(len(fresh))
    if room.max_objects_a_day and room.written:
        held_back = room.hold_back(len(fresh), first_objects(fresh[: len(fresh) - sum(held_back.values())]))
    return (*begun, *fresh[: len(fresh) - sum(held_back.values())]), held_back


def _first_objects(ledger: Ledger, recipe: Recipe, stored: Set[str], rows: Sequence[LabelRow]) -> int:
    """Objects of the row that would be written first; 0 where none is inferred yet."""
    row = next((row for row in rows if row.data_hash in stored), None)
    if row is None:
        return 0
    return len(assemble_stored(ledger, recipe, row.data_hash, recipe.samples_per_second(row)).instances)


def _settled(records: Mapping[str, Record], row: LabelRow) -> bool:
    """Done; or our write may have left and `main` holds something: the sink reads it back and decides whose it is."""
    record = records.get(row.data_hash)
    if record is None:
        return False
    may_be_there = record.state in BEGUN and row.label_hash is not None
    return may_be_there or _is_done(records, row)


def _is_done(records: Mapping[str, Record], row: LabelRow) -> bool:
    record = records.get(row.data_hash)
    return record is not None and record.state == State.DONE


def _kept_reason(record: Record | None) -> Reason | None:
    """Why a row is left alone for good: what stands there now would only tell that it holds people's work."""
    kept = record is not None and record.state == State.LEFT_ALONE and record.reason == Reason.REPLACED_BY_HUMAN
    return Reason.REPLACED_BY_HUMAN if kept else None


def _context(
    source: Source, ledger: Ledger, project: Project, recipe: Recipe, route: Route, rows: list[LabelRow]
) -> Context:
    pulled = route.pull_from
    waiting = (route.agent_stage, pulled if route.is_direct else project.workflow.first_human_stage)
    at_pulled = frozenset(row.data_hash for row in rows if pulled and row.stage_uuid == pulled.uuid)
    return Context(
        waiting_stages=frozenset(item.uuid for item in waiting if item is not None),
        takes_empty=route.is_direct,
        not_new=at_pulled - source.new_tasks(pulled.uuid) if pulled else frozenset(),
        contents=source.contents([row for row in rows if row.label_hash]),
        recipe_id=recipe.id,
        ours=ledger.our_hashes(project.project_hash),
        skipped=source.skipped(),
        named_by_recipe=recipe.can_have_named,
    )


def _handed_over(
    found: _Sorted, stage: Stage | None, records: Mapping[str, Record], *, everything: bool
) -> tuple[tuple[LabelRow, str], ...]:
    """Tasks at our Agent stage with nothing for us to do: people are the fallback and must not wait for ever.

    Those that hold labels only if the stage is ours for certain, or an earlier run had begun with them, or an undo.
    """
    if stage is None:
        return ()
    ours = {*_open(records), *(row.data_hash for row, reason in found.left if reason == Reason.UNDONE)}
    left = [one for one in found.left if everything or one[0].label_hash is None or one[0].data_hash in ours]
    ends = [
        *((row, "labelled" if row.label_hash else "empty") for row in found.done),
        *((row, "failed") for row, _ in found.aside),
        *((row, pathway_of(reason)) for row, reason in left),
    ]
    return tuple((row, way) for row, way in ends if row.stage_uuid == stage.uuid and row.assigned_to is None)


_LABELLED = frozenset(
    {Reason.HUMAN_CONTENT, Reason.OURS_THIS_RECIPE, Reason.OURS_OTHER_RECIPE, Reason.REPLACED_BY_HUMAN}
)


def pathway_of(reason: Reason) -> str:
    """Which pathway a row takes that was left alone: `labelled` where labels stand, `empty` where none do."""
    if reason in _LABELLED:
        return "labelled"
    return "empty" if reason in (Reason.HAS_ROW_EMPTY, Reason.HOLDOUT, Reason.UNDONE) else "failed"


def _gone(records: Mapping[str, Record], listed: Sequence[LabelRow]) -> tuple[str, ...]:
    here = {row.data_hash for row in listed}
    return tuple(key for key in _open(records) if key not in here)


def _open(records: Mapping[str, Record]) -> list[str]:
    """Rows that some run took up and none has finished."""
    return [key for key, record in records.items() if record.state not in SETTLED]
