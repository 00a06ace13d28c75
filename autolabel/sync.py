"""Carries a plan out: infer what is new, deliver it safely, account for every row. Every trigger ends here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from autolabel.core.assemble import Instance
from autolabel.core.identity import digest
from autolabel.core.rows import Destination, LabelRow, Reason
from autolabel.engine import Background, in_batches
from autolabel.errors import PermanentFloodError
from autolabel.inferring import Eyes, Inferred, Inferring
from autolabel.ledger import Ledger, Move, State
from autolabel.plan import Options, Plan, pathway_of
from autolabel.protocols import Gallery, Inference, Left, Outcome, Receipt, Refused, Sink, Source, Write
from autolabel.recipe import Recipe
from autolabel.tally import Tally

GUARD_ROWS, GUARD_FRAMES = 20, 200
GUARD_LEAST_FRAMES = 20
GUARD_SHARE = 0.30
HAND_OVER_ROWS = 50
WRITE_FRAMES_A_ROW = 25
"""A row of so many frames more takes the place of another row in a request: requests stay of one size."""


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
        source = ports.source
        eyes = Eyes(source.download, ports.inference, ports.ledger, ports.spool, source.abandon)
        self._inferring = Inferring(eyes, plan.job, recipe, run_id, self.tally)
        self._gallery = gallery

    def execute(self, options: Options, on_step: Callable[[Tally], None]) -> Tally:
        """Infer and deliver all that the plan names; `on_step` is called after each batch, from either thread.

        Raises PermanentFloodError, before any write, when a class hits its cap on too many of the first frames.
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
        deliver: Callable[[list[Inferred]], None] = partial(self._deliver, on_step)
        plan = self.plan
        with closing(self._inferring.rows(plan.todo, plan.stored, plan.records, options, on_step)) as stream:
            first = self._peek(stream) if self._saves else []
            with Background(deliver, depth=1) as delivery:
                for batch in in_batches(chain(first, stream), options.write_rows, self._weight):
                    delivery.put(batch)

    def _weight(self, inferred: Inferred) -> int:
        row, failure = inferred
        return 1 if failure else 1 + self._recipe.frame_count(row) // WRITE_FRAMES_A_ROW

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
            "dropped_short_tracks": dict(tally.dropped_short_tracks),
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

    def _peek(self, stream: Iterator[Inferred]) -> list[Inferred]:
        """The first rows, judged before anything is written: GUARD_ROWS, or fewer that hold GUARD_FRAMES."""
        first: list[Inferred] = []
        frames, hits = 0, Counter[str]()
        for row, failure in islice(stream, GUARD_ROWS):
            first.append((row, failure))
            for frame in () if failure else self._ledger.detections(self._job.recipe_id, row.data_hash):
                frames += 1
                hits.update(frame.dropped_by_cap.keys())
            if frames >= GUARD_FRAMES:
                break
        self._stop_floods(hits, frames, len(first))
        return first

    def _stop_floods(self, hits: Counter[str], frames: int, rows: int) -> None:
        """`hits`: on how many of the frames a class hit its cap; fewer than GUARD_LEAST_FRAMES weigh as so many."""
        for feature_hash, count in hits.most_common(1):
            if count > GUARD_SHARE * max(frames, GUARD_LEAST_FRAMES):
                cls = next(cls for cls in self._recipe.plan.classes if cls.feature_hash == feature_hash)
                raise PermanentFloodError(
                    f"class {cls.name!r} hit its cap of {cls.max_instances} instances on {count} of the first "
                    f"{frames} frames (label rows: {rows}), so the run stopped before any write. Raise its threshold "
                    f"({cls.threshold}), give it better prompts, or raise max_instances if there really are so many"
                )

    def _deliver(self, on_step: Callable[[Tally], None], batch: Sequence[Inferred]) -> None:
        """Write a batch and settle each of its rows, whatever its outcome."""
        outcomes: dict[str, Outcome | None] = {}
        writes: list[Write] = []
        for row, failure in batch:
            if failure:
                outcomes[row.data_hash] = Refused(failure.reason, failure.message)
                continue
            instances = self._inferring.assemble(row)
            if instances:
                record = self.plan.records.get(row.data_hash)
                announced = record is not None and record.intent_digest == _intent(instances)
                on_branch = row.data_hash in self.plan.on_branch
                writes.append(Write(row, instances, on_branch, announced, self._rate(row)))
            else:
                outcomes[row.data_hash] = None
        outcomes |= self._write(writes)
        self._settle([row for row, _ in batch], outcomes)
        self._show([row for row, _ in batch], outcomes, {write.row.data_hash: write.instances for write in writes})
        on_step(self.tally)

    def _rate(self, row: LabelRow) -> float | None:
        return self._recipe.samples_per_second(row) if row.is_video else None

    def _show(
        self,
        rows: Sequence[LabelRow],
        outcomes: Mapping[str, Outcome | None],
        instances: Mapping[str, tuple[Instance, ...]],
    ) -> None:
        """What is done may be looked at; after that, the media are not needed any more."""
        for row in rows:
            clips = self._inferring.clips.pop(row.data_hash, [])
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
        receipts = {
            row.data_hash: replace(outcome, samples_per_second=self._rate(row))
            for row in rows
            if isinstance(outcome := outcomes[row.data_hash], Receipt)
        }
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
