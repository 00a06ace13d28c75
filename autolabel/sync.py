"""Carries a plan out: infer what is new, deliver it safely, account for every row. Every trigger ends here."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from autolabel.core.assemble import Instance
from autolabel.core.identity import digest
from autolabel.core.limits import DAY_S, Limit, rows_within_cap
from autolabel.core.rows import MAIN_BRANCH, Destination, LabelRow, Reason
from autolabel.engine import Background, in_batches
from autolabel.errors import Interrupted, PermanentFloodError
from autolabel.inferring import Eyes, Inferred, Inferring
from autolabel.ledger import Ledger
from autolabel.plan import Options, Plan, pathway_of
from autolabel.protocols import Gallery, Inference, Left, Outcome, Receipt, Refused, Sink, Source, Write
from autolabel.recipe import Recipe
from autolabel.stages import Meter, Stage
from autolabel.states import BEGUN, Move, State
from autolabel.tally import OVERTAKEN, Tally

GUARD_ROWS, GUARD_FRAMES = 20, 200
GUARD_LEAST_FRAMES = 20
GUARD_SHARE = 0.30
HAND_OVER_ROWS = 50
LEAVE_ROWS = 500
WRITE_FRAMES_A_ROW = 25
"""A row of so many frames more takes the place of another row in a request: requests stay of one size."""


@dataclass(frozen=True)
class Ports:
    """The outside world as a run sees it.

    - `spool`: a folder for media that the caller empties afterwards.
    - `is_reference`: the models answer by transformers' own code.
    - `calls`: how many requests were sent so far, by HTTP status, or "none" where no answer came.
    - `clock`: tells seconds since 1970.
    """

    source: Source
    sink: Sink
    ledger: Ledger
    inference: Inference
    spool: Path
    meter: Meter = field(default_factory=Meter)
    is_reference: bool = False
    calls: Callable[[], Mapping[str, int]] = dict
    clock: Callable[[], float] = time.time


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
        self.tally = Tally(messages=list(plan.notes))
        self._recipe, self._ports, self._saves = recipe, ports, saves
        self._ledger, self._job = ports.ledger, plan.job
        source = ports.source
        eyes = Eyes(
            source.download, ports.inference, ports.ledger, ports.spool, source.abandon, ports.meter, self._goes_on
        )
        self._inferring = Inferring(eyes, plan.job, recipe, run_id, self.tally)
        self._gallery = gallery
        self._pulled: set[str] = set()
        self._ended_by: Limit | None = None
        self._until_s = math.inf
        self._cap: int | None = None

    def execute(self, options: Options, on_step: Callable[[Tally], None]) -> Tally:
        """Infer and deliver all that the plan names; `on_step` is called after each batch, from either thread.

        Where a limit of the options is reached, nothing new is taken up, and what is under way is finished.
        Raises PermanentFloodError, before any write, when a class hits its cap on too many of the first frames.
        Raises TransientError when the platform stays out of reach. Nothing is lost either way.
        """
        self._until_s, self._cap = options.until_s, options.max_objects_a_day
        self._ledger.start_run(self.id, self._job, self.plan.project.title, self._recipe.to_json())
        self._ports.meter.start()
        try:
            self._leave()
            self._work(options, on_step)
            self._hand_over()
        except BaseException as error:
            self.tally.stopped_by = str(error) or type(error).__name__
            raise
        finally:
            self.tally.speed = self._ports.meter.speed(self.tally.inferred_frames)
            self._ledger.finish_run(self.id, self.summary())
        return self.tally

    def _work(self, options: Options, on_step: Callable[[Tally], None]) -> None:
        deliver: Callable[[list[Inferred]], None] = partial(self._deliver, on_step)
        plan = self.plan
        with closing(self._inferring.rows(plan.todo, plan.stored, plan.records, options, on_step)) as stream:
            first = self._peek(stream) if self._saves else []
            with Background(deliver, depth=1) as delivery, self._abandoning():
                for batch in in_batches(chain(first, stream), options.write_rows, self._weight):
                    delivery.put(batch)

    @contextmanager
    def _abandoning(self) -> Iterator[None]:
        """After a signal, what is being delivered waits for nothing any more."""
        try:
            yield
        except Interrupted:
            self._ports.source.abandon()
            raise

    def _goes_on(self) -> bool:
        if self._ended_by is None and self._ports.clock() >= self._until_s:
            self._ended_by = Limit.MAX_MINUTES
        return self._ended_by is None

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
            "eligible": len(plan.todo),
            "labelled": tally.labelled,
            "empty": tally.empty,
            "done_before": len(plan.done),
            "left_alone": dict(left),
            "set_aside": dict(aside),
            "elsewhere": dict(tally.elsewhere),
            "pending": len(plan.todo) - tally.finished + plan.beyond_limit + sum(plan.held_back.values()),
            "held_back": self._held_back(),
            "objects": dict(tally.objects),
            "dropped_by_cap": dict(tally.dropped_by_cap),
            "dropped_without_mask": dict(tally.dropped_without_mask),
            "dropped_short_tracks": dict(tally.dropped_short_tracks),
            "inferred_frames": tally.inferred_frames,
            "stopped_by": tally.stopped_by,
            "speed": tally.speed,
            "reference": self._ports.is_reference,
            "remote_calls": dict(self._ports.calls()),
        }

    def _held_back(self) -> dict[str, int]:
        """Of the rows that are pending, those that wait because of a limit, by limit."""
        held, tally = Counter[str](self.plan.held_back) + self.tally.held_back, self.tally
        if self._ended_by is not None and tally.stopped_by is None:
            begun = tally.finished + len(tally.put_off) + tally.held_back.total()
            held[self._ended_by] += len(self.plan.todo) - begun
        return dict(+held)

    def _leave(self) -> None:
        """Record what the plan leaves alone, and what is gone."""
        plan = self.plan
        for batch in in_batches(plan.news.items(), LEAVE_ROWS):
            self._ledger.leave(self._job, self.id, dict(batch), plan.records)
        self._ledger.note_edits(self._job.project_hash, plan.noted)

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
        outcomes, writes = self._assemble(batch)
        writes = self._within_cap(writes)
        with self._ports.meter.at(Stage.DELIVER):
            mine = self._announce(writes)
            outcomes |= self._write([write for write in writes if write.row.data_hash in mine])
            rows = [row for row, _ in batch if row.data_hash in outcomes]
            settled = self._settle(rows, outcomes)
            shown = {write.row.data_hash: write.instances for write in writes}
            self._show([row for row, _ in batch], settled, outcomes, shown)
        on_step(self.tally)

    def _assemble(self, batch: Sequence[Inferred]) -> tuple[dict[str, Outcome | None], list[Write]]:
        """What is to be written, and how the rows end for which there is nothing to write."""
        outcomes: dict[str, Outcome | None] = {}
        writes: list[Write] = []
        keys = [row.data_hash for row, _ in batch]
        branch = MAIN_BRANCH if self._job.destination == Destination.AGENT_STAGE else self._recipe.branch
        landed = self._ledger.written_to(self._job.project_hash, branch, keys)
        for row, failure in batch:
            if failure:
                outcomes[row.data_hash] = Refused(failure.reason, failure.message)
                continue
            instances = self._inferring.assemble(row)
            if instances:
                announced = self._inferring.claimed[row.data_hash].intent_digest == _intent(instances)
                rate = self._recipe.samples_per_second(row)
                writes.append(Write(row, instances, row.data_hash in landed, announced, rate))
            else:
                outcomes[row.data_hash] = None
        return outcomes, writes

    def _within_cap(self, writes: Sequence[Write]) -> list[Write]:
        """What the day's cap has room for; other rows stay inferred. A write that was announced may have landed."""
        if self._cap is None:
            return list(writes)
        claimed = self._inferring.claimed
        begun = [item for item in writes if claimed[item.row.data_hash].state in BEGUN]
        fresh = [item for item in writes if claimed[item.row.data_hash].state not in BEGUN]
        written = self._ledger.objects_within(self._job.project_hash, DAY_S)
        written += sum(len(item.instances) for item in begun)
        is_open = not self.tally.held_back
        room = rows_within_cap([len(item.instances) for item in fresh], self._cap, written) if is_open else 0
        if held := len(fresh) - room:
            self.tally.held_back[Limit.MAX_OBJECTS_A_DAY] += held
            self._ended_by = self._ended_by or Limit.MAX_OBJECTS_A_DAY
        return begun + fresh[:room]

    def _show(
        self,
        rows: Sequence[LabelRow],
        settled: Set[str],
        outcomes: Mapping[str, Outcome | None],
        instances: Mapping[str, tuple[Instance, ...]],
    ) -> None:
        """What is done may be looked at; after that, the media are not needed any more."""
        for row in rows:
            clips = self._inferring.clips.pop(row.data_hash, [])
            if row.data_hash in settled and isinstance(outcomes[row.data_hash], Receipt | None):
                self._gallery.add(row, instances.get(row.data_hash, ()), clips)
            for clip in clips:
                clip.path.unlink(missing_ok=True)

    def _announce(self, writes: Sequence[Write]) -> frozenset[str]:
        """The intent comes before the platform; the rows that are still this run's own."""
        return self._move(
            Move(item.row.data_hash, State.INTENT, intent_digest=_intent(item.instances)) for item in writes
        )

    def _write(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        """A row that a dead run had written is simply written again: same effect."""
        if not writes:
            return {}
        if self._job.destination == Destination.AGENT_STAGE:
            return self._write_at_stage(writes)
        outcomes = dict(self._ports.sink.save_to_branch(writes)) if self._saves else {}
        if self._job.destination == Destination.MAIN:
            refused = {key for key, outcome in outcomes.items() if not isinstance(outcome, Receipt)}
            rows = [item.row for item in writes if item.row.data_hash not in refused]
            outcomes |= self._ports.sink.copy_to_main(rows, include_assigned=self.plan.include_assigned)
        return outcomes

    def _write_at_stage(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        """Tasks are moved to the Agent stage only now, when there is something to write: people wait for seconds."""
        sink, stage, origin = self._ports.sink, self.plan.agent_stage, self.plan.pull_from
        if stage is None:
            raise AssertionError("a plan for this destination has an Agent stage")
        pulled = [item.row for item in writes if self.plan.is_pulled(item.row) and not item.landed]
        if origin is not None and pulled:
            self._pulled |= {row.data_hash for row in pulled}
            sink.pull(pulled, origin.uuid, stage.uuid)
        return sink.save_at_stage(writes, stage.uuid)

    def _settle(self, rows: Sequence[LabelRow], outcomes: Mapping[str, Outcome | None]) -> frozenset[str]:
        """Receipts are kept, tasks at the Agent stage move on, and only then is a row finished. Which rows were.

        A row whose task the platform does not move stays as it is and is settled by the next run.
        """
        mine = self._ledger.owned(self._job, self.id, [row.data_hash for row in rows])
        self._lose(len(rows) - len(mine))
        rows = [row for row in rows if row.data_hash in mine]
        receipts = {
            row.data_hash: replace(outcome, samples_per_second=self._recipe.samples_per_second(row))
            for row in rows
            if isinstance(outcome := outcomes[row.data_hash], Receipt)
        }
        written = self._move(Move(key, State.WRITTEN, receipt=receipt) for key, receipt in receipts.items())
        lost = receipts.keys() - written
        at_stage = [row for row in rows if self.plan.is_at_agent_stage(row) or row.data_hash in self._pulled]
        theirs = {key for key, outcome in outcomes.items() if outcome == Left(Reason.ASSIGNED)}
        ours = [row for row in at_stage if row.data_hash not in lost | theirs]
        waiting = [(row, _pathway(outcomes[row.data_hash])) for row in ours]
        stuck = {row.data_hash for row, _ in waiting} - self._proceed(waiting)
        self.tally.put_off |= stuck
        left = [row for row in rows if row.data_hash not in stuck | lost]
        settled = self._move(_last_move(row, outcomes[row.data_hash]) for row in left)
        for row in left:
            if row.data_hash in settled:
                self._count(row, outcomes[row.data_hash])
        return settled

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

    def _move(self, moves: Iterable[Move]) -> frozenset[str]:
        """What another run took over, since this one stood still for too long, is left to that run."""
        steps = list(moves)
        moved = self._ledger.move(self._job, self.id, steps)
        self._lose(len(steps) - len(moved))
        return moved

    def _lose(self, rows: int) -> None:
        if rows:
            self.tally.elsewhere[OVERTAKEN] += rows


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
