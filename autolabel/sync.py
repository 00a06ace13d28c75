"""Carries a plan out: infer what is new, deliver it safely, account for every row. Every trigger ends here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from autolabel.core.assemble import Instance, assemble, lacks_mask
from autolabel.core.detections import FrameLabels
from autolabel.core.identity import digest
from autolabel.core.prompts import Shape
from autolabel.core.rows import Destination, LabelRow, Reason
from autolabel.engine import STRIKES, Background, in_batches, infer_isolated, prefetch
from autolabel.errors import PermanentFloodError, PermanentMediaError, TransientError
from autolabel.ledger import Ledger, Move, State
from autolabel.plan import Options, Plan, pathway_of
from autolabel.protocols import (
    Clip,
    ClipFailure,
    Gallery,
    Inference,
    Left,
    Outcome,
    Receipt,
    Refused,
    Sink,
    Source,
    Write,
)
from autolabel.recipe import Recipe

GUARD_ROWS = 20
GUARD_SHARE = 0.30
SUSPECT_ATTEMPTS = 2
HAND_OVER_ROWS = 50

Labelled = tuple[LabelRow, list[FrameLabels] | ClipFailure]


@dataclass
class Tally:
    """What became of the rows of a run so far."""

    labelled: int = 0
    empty: int = 0
    inferred_frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    dropped_by_cap: Counter[str] = field(default_factory=Counter)
    dropped_without_mask: Counter[str] = field(default_factory=Counter)
    left_alone: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    stopped_by: str | None = None

    @property
    def finished(self) -> int:
        return self.labelled + self.empty + self.left_alone.total() + self.set_aside.total()

    def count_dropped(self, frames: Iterable[FrameLabels], shapes: Mapping[str, Shape]) -> None:
        """What was found on them and is not labelled."""
        for frame in frames:
            self.dropped_by_cap.update(frame.dropped_by_cap)
            bare = (found.feature_hash for found in frame.detections if lacks_mask(found, shapes))
            self.dropped_without_mask.update(bare)


@dataclass(frozen=True)
class Ports:
    """The outside world as a run sees it; `spool` is a folder for media that the caller empties afterwards."""

    source: Source
    sink: Sink
    ledger: Ledger
    inference: Inference
    spool: Path


class Run:
    """One execution of a plan. Whatever stops it, the ledger holds every row where the next run takes it up.

    `gallery` gets every row that this run finishes. `saves` is False when labels stand on our branch already and are
    only to be published.
    """

    def __init__(
        self, plan: Plan, recipe: Recipe, ports: Ports, run_id: str, gallery: Gallery, *, saves: bool = True
    ) -> None:
        self.id = run_id
        self.plan = plan
        self.tally = Tally()
        self._recipe, self._ports, self._saves = recipe, ports, saves
        self._ledger, self._job = ports.ledger, plan.job
        self._gallery = gallery
        self._clips: dict[str, list[Clip]] = {}

    def execute(self, options: Options, on_step: Callable[[Tally], None]) -> Tally:
        """Infer and deliver all that the plan names; `on_step` is called after each batch, from either thread.

        Raises PermanentFloodError, before any write, when too many of the first rows hit a class's cap.
        Raises TransientError when the platform stays out of reach. Nothing is lost either way.
        """
        self._ledger.start_run(self.id, self._job, self.plan.project.title, self._recipe.to_json())
        try:
            self._take_up()
            self._work(options, on_step)
            self._hand_over()
        except BaseException as error:
            self.tally.stopped_by = str(error) or type(error).__name__
            raise
        finally:
            self._ledger.finish_run(self.id, self.summary())
        return self.tally

    def _work(self, options: Options, on_step: Callable[[Tally], None]) -> None:
        deliver: Callable[[list[Labelled]], None] = partial(self._deliver, on_step)
        with closing(self._infer(options, on_step)) as stream:
            first = list(islice(stream, GUARD_ROWS))
            if self._saves:
                self._stop_floods(first)
            with Background(deliver, depth=2) as delivery:
                for batch in in_batches(chain(first, stream), options.write_rows):
                    delivery.put(batch)

    def summary(self) -> dict[str, Any]:
        """The run in numbers; the rows add up to the plan's total."""
        plan, tally = self.plan, self.tally
        left = Counter(reason for _, reason in plan.left_alone) + tally.left_alone
        aside = Counter(reason for _, reason in plan.set_aside) + tally.set_aside
        return {
            "run": self.id,
            "project": plan.job.project_hash,
            "recipe": plan.job.recipe_id,
            "destination": plan.job.destination,
            "total": plan.total,
            "labelled": tally.labelled,
            "empty": tally.empty,
            "done_before": len(plan.done),
            "left_alone": dict(left),
            "set_aside": dict(aside),
            "pending": len(plan.todo) - tally.finished + plan.beyond_limit,
            "objects": dict(tally.objects),
            "dropped_by_cap": dict(tally.dropped_by_cap),
            "dropped_without_mask": dict(tally.dropped_without_mask),
            "inferred_frames": tally.inferred_frames,
            "stopped_by": tally.stopped_by,
        }

    def _take_up(self) -> None:
        """Record what the plan leaves alone, and claim what it does not."""
        plan = self.plan
        news = [(row, why) for row, why in plan.left_alone if _reason_on_record(plan, row) != why]
        under_way = (State.INFERRED, State.INTENT, State.WRITTEN)
        claimed = [row for row in plan.todo if _state(plan, row) not in under_way]
        self._ledger.find(self._job, self.id, [row.data_hash for row in (*claimed, *(row for row, _ in news))])
        self._move(Move(row.data_hash, State.LEFT_ALONE, why) for row, why in news)
        self._move(Move(data_hash, State.LEFT_ALONE, Reason.GONE) for data_hash in plan.gone)
        self._move(Move(row.data_hash, State.LEASED) for row in claimed)
        self._move(Move(row.data_hash, State.INFERRED) for row in claimed if row.data_hash in plan.stored)

    def _infer(self, options: Options, on_step: Callable[[Tally], None]) -> Generator[Labelled]:
        """Every row of the plan with its detections: kept ones first, then fresh ones, suspects last and alone.

        A suspect is a row under which whole runs died, twice or more; after more deaths while alone it is given up.
        """
        for row in self.plan.todo:
            if row.data_hash in self.plan.stored:
                yield row, self._ledger.detections(self._job.recipe_id, row.data_hash)
        fresh = [(row, self._attempts(row)) for row in self.plan.to_infer]
        ordinary = [row for row, attempts in fresh if attempts < SUSPECT_ATTEMPTS]
        suspects = [row for row, attempts in fresh if SUSPECT_ATTEMPTS <= attempts < SUSPECT_ATTEMPTS + STRIKES]
        for row, attempts in fresh:
            if attempts >= SUSPECT_ATTEMPTS + STRIKES:
                yield row, ClipFailure(Reason.CRASH, f"{attempts} runs ended while they worked on it")
        for rows, size in ((ordinary, options.batch_rows), (suspects, 1)):
            fetched = prefetch(rows, self._fetch, options.download_threads, 2 * size + options.download_threads)
            for batch in in_batches(fetched, size):
                yield from self._infer_batch(batch)
                on_step(self.tally)

    def _attempts(self, row: LabelRow) -> int:
        """Whole runs that died while they worked on the row; those before a `--retry-failed` are forgotten."""
        record = self.plan.records.get(row.data_hash)
        return record.attempts if record and record.state != State.SET_ASIDE else 0

    def _fetch(self, row: LabelRow) -> list[Clip] | ClipFailure | None:
        """None for a download that failed for now: the row stays claimed, and the next run starts it again."""
        try:
            return self._ports.source.download(row, self._ports.spool)
        except PermanentMediaError as error:
            return ClipFailure(Reason(error.reason), str(error))
        except TransientError as error:
            self.tally.messages.append(f"{error}; row {row.title!r} waits for the next run")
            return None

    def _infer_batch(self, batch: Sequence[tuple[LabelRow, list[Clip] | ClipFailure | None]]) -> Iterator[Labelled]:
        yield from ((row, clips) for row, clips in batch if isinstance(clips, ClipFailure))
        ready = {row: clips for row, clips in batch if isinstance(clips, list)}
        if not ready:
            return
        answers = iter(
            self._ask([row.data_hash for row in ready], [clip for clips in ready.values() for clip in clips])
        )
        labelled = {row: joined([next(answers) for _ in clips]) for row, clips in ready.items()}
        self._ledger.put_detections(
            self._job,
            self.id,
            {row.data_hash: frames for row, frames in labelled.items() if not isinstance(frames, ClipFailure)},
        )
        for row, frames in labelled.items():
            if not isinstance(frames, ClipFailure):
                self.tally.inferred_frames += len(frames)
            self._clips[row.data_hash] = ready[row]
            yield row, frames

    def _ask(self, data_hashes: Sequence[str], clips: Sequence[Clip]) -> list[list[FrameLabels] | ClipFailure]:
        self._ledger.start_attempt(self._job, data_hashes)
        try:
            return infer_isolated(self._ports.inference, clips)
        except BaseException:
            self._ledger.give_back_attempt(self._job, data_hashes)
            raise

    def _stop_floods(self, first: Sequence[Labelled]) -> None:
        hits: Counter[str] = Counter()
        for _, frames in first:
            if isinstance(frames, list):
                hits.update({name for frame in frames for name in frame.dropped_by_cap})
        for feature_hash, count in hits.most_common(1):
            if count > GUARD_SHARE * GUARD_ROWS:
                cls = next(cls for cls in self._recipe.plan.classes if cls.feature_hash == feature_hash)
                raise PermanentFloodError(
                    f"class {cls.name!r} hit its cap of {cls.max_instances} instances on {count} of the first "
                    f"{len(first)} rows, so the run stopped before any write. Raise its threshold ({cls.threshold}), "
                    "give it better prompts, or raise max_instances if there really are so many"
                )

    def _deliver(self, on_step: Callable[[Tally], None], batch: Sequence[Labelled]) -> None:
        """Write a batch and settle each of its rows, whatever its outcome."""
        outcomes: dict[str, Outcome | None] = {}
        writes: list[Write] = []
        for row, frames in batch:
            if isinstance(frames, ClipFailure):
                outcomes[row.data_hash] = Refused(frames.reason, frames.message)
                continue
            self.tally.count_dropped(frames, self._recipe.shapes)
            instances = assemble(frames, self._recipe.shapes, self._job.recipe_id, row.data_hash)
            if instances:
                writes.append(Write(row, tuple(instances), row.data_hash in self.plan.on_branch))
            else:
                outcomes[row.data_hash] = None
        outcomes |= self._write(writes)
        self._settle([row for row, _ in batch], outcomes)
        self._show([row for row, _ in batch], outcomes, {write.row.data_hash: write.instances for write in writes})
        on_step(self.tally)

    def _show(
        self,
        rows: Sequence[LabelRow],
        outcomes: Mapping[str, Outcome | None],
        instances: Mapping[str, tuple[Instance, ...]],
    ) -> None:
        """What is done may be looked at; after that, the media are not needed any more."""
        for row in rows:
            clips = self._clips.pop(row.data_hash, [])
            if outcomes[row.data_hash] is None or isinstance(outcomes[row.data_hash], Receipt):
                self._gallery.add(row, instances.get(row.data_hash, ()), clips)
            for clip in clips:
                clip.path.unlink(missing_ok=True)

    def _write(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        """Intent first, then the platform. A row that a dead run had written is simply written again: same effect."""
        if not writes:
            return {}
        self._move(Move(item.row.data_hash, State.INTENT, intent_digest=_intent(item.instances)) for item in writes)
        outcomes = dict(self._ports.sink.save_to_branch(writes)) if self._saves else {}
        if self._job.destination == Destination.MAIN:
            refused = {key for key, outcome in outcomes.items() if not isinstance(outcome, Receipt)}
            rows = [item.row for item in writes if item.row.data_hash not in refused]
            outcomes |= self._ports.sink.copy_to_main(rows)
        return outcomes

    def _settle(self, rows: Sequence[LabelRow], outcomes: Mapping[str, Outcome | None]) -> None:
        """Receipts are kept, tasks at the Agent stage move on, and only then is a row finished.

        A row whose task the platform does not move stays as it is and is settled by the next run.
        """
        receipts = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Receipt)}
        self._move(Move(key, State.WRITTEN, receipt=receipt) for key, receipt in receipts.items())
        waiting = [(row, _pathway(outcomes[row.data_hash])) for row in rows if self.plan.is_at_agent_stage(row)]
        stuck = {row.data_hash for row, _ in waiting} - self._proceed(waiting)
        settled = [row for row in rows if row.data_hash not in stuck]
        self._move(_last_move(row, outcomes[row.data_hash]) for row in settled)
        for row in settled:
            self._count(row, outcomes[row.data_hash])

    def _count(self, row: LabelRow, outcome: Outcome | None) -> None:
        if outcome is None:
            self.tally.empty += 1
        elif isinstance(outcome, Receipt):
            self.tally.labelled += 1
            self.tally.objects.update(outcome.objects.values())
        elif isinstance(outcome, Left):
            self.tally.left_alone[outcome.reason] += 1
        else:
            self.tally.set_aside[outcome.reason] += 1
            self.tally.messages.append(f"{row.title}: {outcome.message}")

    def _proceed(self, waiting: Sequence[tuple[LabelRow, str]]) -> frozenset[str]:
        """Move tasks on by their pathways; the rows that have left the stage."""
        stage, moved = self.plan.agent_stage, frozenset[str]()
        for outcome, pathway in self.plan.pathways.items():
            rows = [row for row, name in waiting if name == outcome]
            if stage is not None and rows:
                left = self._ports.sink.proceed(rows, stage.uuid, pathway)
                stuck = [row.title for row in rows if row.data_hash not in left]
                self.tally.messages += [f"{title}: the platform does not move its task on" for title in stuck]
                moved |= left
        return moved

    def _hand_over(self) -> None:
        for batch in in_batches(self.plan.handed_over, HAND_OVER_ROWS):
            self._proceed(batch)

    def _move(self, moves: Iterable[Move]) -> None:
        self._ledger.move(self._job, self.id, list(moves))


def _state(plan: Plan, row: LabelRow) -> State | None:
    record = plan.records.get(row.data_hash)
    return record.state if record else None


def _reason_on_record(plan: Plan, row: LabelRow) -> str | None:
    record = plan.records.get(row.data_hash)
    return record.reason if record and record.state == State.LEFT_ALONE else None


def joined(answers: Sequence[list[FrameLabels] | ClipFailure]) -> list[FrameLabels] | ClipFailure:
    """The answers for a row's clips; one that failed fails the row, since half a row is a wrong row."""
    failure = next((answer for answer in answers if isinstance(answer, ClipFailure)), None)
    return failure or [frame for answer in answers if isinstance(answer, list) for frame in answer]


def _pathway(outcome: Outcome | None) -> str:
    if isinstance(outcome, Left):
        return pathway_of(outcome.reason)
    if isinstance(outcome, Refused):
        return "failed"
    return "empty" if outcome is None else "labelled"


def _last_move(row: LabelRow, outcome: Outcome | None) -> Move:
    if isinstance(outcome, Left):
        return Move(row.data_hash, State.LEFT_ALONE, outcome.reason)
    if isinstance(outcome, Refused):
        return Move(row.data_hash, State.SET_ASIDE, outcome.reason, f"{row.title}: {outcome.message}")
    return Move(row.data_hash, State.DONE)


def _intent(instances: Sequence[Instance]) -> str:
    """Digest of what is about to be written."""
    return digest(
        [
            [item.object_hash, item.feature_hash, item.shape, place.frame_index, found.score, found.box_xyxy_px]
            + ([found.mask.window_xyxy_px, found.mask.counts.decode("ascii")] if found.mask else [])
            for item in instances
            for place in item.placements
            for found in [place.detection]
        ]
    )
