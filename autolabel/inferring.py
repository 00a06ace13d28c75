"""Carries rows through download and inference: frames go to the worker in chunks, detections into the ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from PIL import Image

from autolabel.core.assemble import Instance
from autolabel.core.rows import LabelRow, Reason
from autolabel.core.sampling import sample
from autolabel.engine import STRIKES, Asking, Batch, Part, ask_alone, in_batches, prefetch
from autolabel.errors import (
    PermanentMediaError,
    PermanentModelError,
    TransientError,
    TransientLedgerError,
    TransientMediaError,
    TransientOutageError,
)
from autolabel.ledger import Ledger
from autolabel.plan import Options, assemble_stored
from autolabel.protocols import Clip, ClipAnswer, ClipFailure, Inference
from autolabel.recipe import Recipe
from autolabel.stages import Meter, Stage
from autolabel.states import Chunk, Job, Record, State
from autolabel.tally import OVERTAKEN, Tally

BLANK_PX = 640
CHUNK_FRAMES = 32
"""Frames of a video that are asked for at once: what a kill can cost at most."""
LONG_ROWS_AHEAD = 4
"""Downloads that run ahead where rows are videos or groups, which fill the disk."""
QUESTIONS = 2
"""Open at a time, so that the models never wait for a commit; a suspect is asked about alone."""
SUSPECT_ATTEMPTS = 2
MAY_BE_THE_DEVICE = frozenset({Reason.INVALID_OUTPUT, Reason.OOM})
DOWNLOAD_RUNS = 3
"""Runs in which a row's media were not to be had, while others were, until it is set aside."""

Inferred = tuple[LabelRow, ClipFailure | None]
"""A row whose detections are all in the ledger, or why they are not to be had."""


@dataclass(frozen=True)
class Eyes:
    """What looking takes: `download` puts media into `spool`, answers go into the ledger.

    `download` and `abandon` are as those of `Source`. `goes_on` is asked, from any thread, before anything new is
    taken up; what it was said of once that it does not go on never does again.
    """

    download: Callable[[LabelRow, Path], list[Clip]]
    inference: Inference
    ledger: Ledger
    spool: Path
    abandon: Callable[[], None] = lambda: None
    meter: Meter = field(default_factory=Meter)
    goes_on: Callable[[], bool] = lambda: True


class Inferring:
    """The first half of a run.

    - `clips`: of rows that came to an end, the frames that were looked at, in files that whoever takes them deletes.
    - `claimed`: rows that are this run's own, as they stood when it got them.
    """

    def __init__(self, eyes: Eyes, job: Job, recipe: Recipe, run_id: str, tally: Tally) -> None:
        self.clips: dict[str, list[Clip]] = {}
        self.claimed: dict[str, Record] = {}
        self._eyes, self._job, self._recipe, self._run_id, self._tally = eyes, job, recipe, run_id, tally
        self._recording = partial(eyes.meter.at, Stage.RECORD)
        self._asking = Asking(eyes.inference)
        self._open: deque[Batch] = deque()
        self._failed: set[str] = set()
        self._unanswered: list[Inferred] = []

    def rows(
        self,
        todo: Sequence[LabelRow],
        stored: Set[str],
        records: Mapping[str, Record],
        options: Options,
        on_step: Callable[[Tally], None],
    ) -> Generator[Inferred]:
        """Every row that no other run has, those in `stored` first, then fresh ones, suspects last and alone.

        Rows are claimed a few at a time, just before they are needed: several runs share a project that way.
        A suspect is a row under which whole runs died, twice or more; after more deaths while alone it is given up.
        Raises PermanentModelError when the models fail on rows and on a blank picture too.
        """
        claimed = partial(self._claimed, seen=records, size=options.write_rows)
        yield from ((row, None) for row in claimed(row for row in todo if row.data_hash in stored))
        fresh = [(row, _deaths(records.get(row.data_hash))) for row in todo if row.data_hash not in stored]
        ordinary = [row for row, deaths in fresh if deaths < SUSPECT_ATTEMPTS]
        suspects = [row for row, deaths in fresh if SUSPECT_ATTEMPTS <= deaths < SUSPECT_ATTEMPTS + STRIKES]
        lost = {row.data_hash: deaths for row, deaths in fresh if deaths >= SUSPECT_ATTEMPTS + STRIKES}
        for row in claimed(row for row, _ in fresh if row.data_hash in lost):
            yield row, ClipFailure(Reason.CRASH, f"{lost[row.data_hash]} runs ended while they worked on it")
        for rows, size, questions in ((ordinary, options.batch_frames, QUESTIONS), (suspects, 1, 1)):
            is_long = any(row.frames > 1 for row in rows)
            threads = min(options.download_threads, LONG_ROWS_AHEAD) if is_long else options.download_threads
            self._eyes.meter.on_threads(Stage.DOWNLOAD, threads)
            ahead = threads + (0 if is_long else 2 * size)
            with (
                closing(prefetch(claimed(rows), self._fetch, threads, ahead, self._eyes.abandon)) as fetched,
                closing(
                    self._answered(in_batches(self._parts(fetched), size, attrgetter("weight")), questions)
                ) as answered,
            ):
                for batch, answers in answered:
                    yield from self._trusted(list(self._keep(batch, answers)))
                    on_step(self._tally)
        if self._unanswered:
            self._check_models()
            yield from self._unanswered

    def _claimed(self, rows: Iterable[LabelRow], seen: Mapping[str, Record], size: int) -> Iterator[LabelRow]:
        for batch in in_batches(rows, size):
            if not self._eyes.goes_on():
                return
            with self._recording():
                claims = self._eyes.ledger.claim(self._job, self._run_id, [row.data_hash for row in batch], seen)
            self.claimed |= claims.taken
            self._tally.elsewhere.update(claims.elsewhere.values())
            yield from (row for row in batch if row.data_hash in claims.taken and self._eyes.goes_on())

    def _is_fresh(self, row: LabelRow) -> bool:
        """Whether it was still to be inferred when this run got it."""
        return self.claimed[row.data_hash].state == State.LEASED

    def assemble(self, row: LabelRow) -> tuple[Instance, ...]:
        """A row's instances out of its stored detections; what they leave out is counted."""
        rate = self._recipe.samples_per_second(row)
        with self._eyes.meter.at(Stage.ASSEMBLE):
            found = assemble_stored(self._eyes.ledger, self._recipe, row.data_hash, rate)
        self._tally.dropped_by_cap.update(found.dropped_by_cap)
        self._tally.dropped_without_mask.update(found.dropped_without_mask)
        self._tally.dropped_short_tracks.update(found.dropped_short_tracks)
        return found.instances

    def _fetch(self, row: LabelRow) -> list[Clip] | ClipFailure | None:
        """None for a download that failed for now: the row stays claimed, and the next run starts it again.

        Nothing is fetched for a row that another run inferred since the plan was made.
        A failure is counted only where the row is to blame: a platform that is out of reach sets no row aside.
        """
        if not self._is_fresh(row) or not self._eyes.goes_on():
            return None
        try:
            with self._eyes.meter.at(Stage.DOWNLOAD):
                return self._eyes.download(row, self._eyes.spool)
        except PermanentMediaError as error:
            return ClipFailure(Reason(error.reason), str(error))
        except (TransientOutageError, TransientLedgerError):
            raise
        except TransientError as error:
            is_own, ledger = isinstance(error, TransientMediaError), self._eyes.ledger
            runs = ledger.count_failed_download(self._job, self._run_id, row.data_hash) if is_own else 0
            if runs >= DOWNLOAD_RUNS:
                return ClipFailure(Reason.DOWNLOAD, f"{error}, in {runs} runs; --retry-failed takes it up again")
            self._tally.messages.append(f"{error}; row {row.title!r} waits for the next run")
            return None

    def _parts(self, fetched: Iterable[tuple[LabelRow, list[Clip] | ClipFailure | None]]) -> Iterator[Part]:
        for row, clips in fetched:
            if not self._is_fresh(row):
                yield Part(row, None)
            elif isinstance(clips, ClipFailure):
                yield Part(row, None, failure=clips)
            elif not self._eyes.goes_on():
                continue  # not begun: it is free again when the run ends
            elif clips is not None:
                self.clips[row.data_hash] = clips
                yield from self._parts_of(row, clips)
            else:
                self._tally.put_off.add(row.data_hash)

    def _parts_of(self, row: LabelRow, clips: Sequence[Clip]) -> Iterator[Part]:
        """What is still to be asked of a row; nothing more once some of it has failed, or the run is to end."""
        missing = self._missing(row, clips)
        if isinstance(missing, ClipFailure):
            yield Part(row, None, failure=missing)
            return
        for place, clip in enumerate(missing, start=1):
            if row.data_hash not in self._failed and (place == 1 or self._eyes.goes_on()):
                yield Part(row, clip, ends_row=place == len(missing))

    def _missing(self, row: LabelRow, clips: Sequence[Clip]) -> list[Clip] | ClipFailure:
        """The frames of a row that are to be looked at and whose detections no run has kept, in chunks."""
        stored = self._eyes.ledger.detections(self._job.recipe_id, row.data_hash) if row.frames > 1 else ()
        kept = {frame.frame_index for frame in stored}
        missing: list[Clip] = []
        for place, clip in enumerate(clips):
            wanted = self._wanted(clip)
            if isinstance(wanted, ClipFailure):
                return wanted
            self.clips[row.data_hash][place] = replace(clip, frame_indices=wanted)
            new = [index for index in wanted if index not in kept]
            missing += [replace(clip, frame_indices=chunk) for chunk in in_batches(new, CHUNK_FRAMES)]
        if missing:
            return missing
        if kept:  # all of it, and the file was another one then: ask once more, so that the row comes to its end
            return [replace(clips[-1], frame_indices=[max(kept)])]
        return ClipFailure(Reason.FRAME_COUNT, "it has no frames")

    def _wanted(self, clip: Clip) -> Sequence[int] | ClipFailure:
        if clip.video_frames is None:
            return clip.frame_indices
        self._asking.settle()
        with self._attempt([clip.data_hash]):
            inference = self._eyes.inference
            times_s = ask_alone(inference, partial(inference.frame_times_s, clip))
        self._eyes.ledger.give_back_attempt(self._job, self._run_id, [clip.data_hash])
        return times_s if isinstance(times_s, ClipFailure) else sample(times_s, self._recipe.frames_per_second)

    def _trusted(self, ended: Sequence[Inferred]) -> Iterator[Inferred]:
        """Rows on which the models fail wait for one that shows the models to be well: only then is it the rows.

        Where several fail in succession, a blank picture is that one.
        """
        failed = [one for one in ended if one[1] and one[1].reason in MAY_BE_THE_DEVICE]
        self._unanswered += failed
        yield from (one for one in ended if one not in failed)
        answered = any(failure is None and self._is_fresh(row) for row, failure in ended)
        if not answered and len(self._unanswered) >= STRIKES:
            self._check_models()
            answered = True
        if answered:
            yield from self._unanswered
            self._unanswered.clear()

    def _check_models(self) -> None:
        """Ask for a blank picture, as large as that of a row that failed: a device may be short of memory only then.

        Raises PermanentModelError where it fails too, so that no row is blamed.
        """
        row = self._unanswered[-1][0]
        width_px, height_px = row.width_px or BLANK_PX, row.height_px or BLANK_PX
        path = self._eyes.spool / "blank.png"
        Image.new("RGB", (width_px, height_px)).save(path)
        self._asking.settle()
        asking = Asking(self._eyes.inference)
        asking.ask([Clip("blank", path, (0,), width_px, height_px)])
        (answer,) = asking.answer()
        path.unlink()
        if isinstance(answer, ClipFailure):
            raise PermanentModelError(
                f"the models can answer neither for {len(self._unanswered)} label rows in succession nor for a blank "
                f"picture, so no row is blamed: {answer.message}. Nothing is lost; check device and weights "
                "(`autolabel doctor`), then run again"
            )

    def _answered(
        self, batches: Iterable[Sequence[Part]], questions: int
    ) -> Generator[tuple[Batch, list[ClipAnswer]]]:
        """Batches with their answers, in order; of so many at a time the rows are at work."""
        try:
            for parts in batches:
                self._ask(parts)
                if len(self._open) == questions:
                    yield self._answer()
            while self._open:
                yield self._answer()
        except BaseException:
            if at_work := self._at_work() - self._failed:
                self._eyes.ledger.give_back_attempt(self._job, self._run_id, list(at_work))
            self._open.clear()
            raise

    def _at_work(self) -> set[str]:
        return {key for batch in self._open for key in batch.data_hashes}

    def _ask(self, parts: Sequence[Part]) -> None:
        """An attempt is counted before its row is at work, and once however many of its parts are."""
        asked = [(part, part.clip) for part in parts if part.clip and part.row.data_hash not in self._failed]
        batch = Batch(asked, [part for part in parts if part.clip is None])
        at_work = self._at_work()
        self._start_attempt([key for key in batch.data_hashes if key not in at_work])
        self._open.append(batch)
        if asked:
            self._asking.ask([clip for _, clip in asked])

    def _start_attempt(self, data_hashes: Sequence[str]) -> None:
        if data_hashes:
            with self._recording():
                self._eyes.ledger.start_attempt(self._job, self._run_id, data_hashes)

    def _answer(self) -> tuple[Batch, list[ClipAnswer]]:
        """Files go away with failures, which other open questions may be about: these are answered first."""
        answers = self._asking.answer() if self._open[0].asked else []
        if any(isinstance(it, ClipFailure) for it in answers) or any(part.failure for part in self._open[0].ended):
            self._asking.settle()
        return self._open.popleft(), answers

    def _keep(self, batch: Batch, answers: Sequence[ClipAnswer]) -> Iterator[Inferred]:
        """The rows that come to their end with these answers; of a row that has failed, nothing more is kept."""
        for part in batch.ended:
            yield from self._end(part.row, part.failure)
        found = [
            (part, answer)
            for (part, _), answer in zip(batch.asked, answers, strict=True)
            if part.row.data_hash not in self._failed
        ]
        failures = {part.row: answer for part, answer in found if isinstance(answer, ClipFailure)}
        if failures:
            self._eyes.ledger.give_back_attempt(self._job, self._run_id, [row.data_hash for row in failures])
        chunks = [
            Chunk(part.row.data_hash, answer, part.ends_row)
            for part, answer in found
            if not isinstance(answer, ClipFailure) and part.row not in failures
        ]
        kept = self._record(chunks)
        for row, failure in failures.items():
            yield from self._end(row, failure)
        for part in (part for part, _ in found if part.row not in failures):
            if part.row.data_hash not in kept:
                self._lose(part.row)
            elif part.ends_row:
                yield from self._end(part.row, None)

    def _record(self, chunks: Sequence[Chunk]) -> frozenset[str]:
        """Which rows the chunks are kept of. That clears a row's attempt, also where more of it is at work."""
        if not chunks:
            return frozenset()
        with self._recording():
            kept = self._eyes.ledger.put_detections(self._job, self._run_id, chunks)
        self._tally.inferred_frames += sum(len(chunk.frames) for chunk in chunks)
        self._start_attempt(list(kept & self._at_work()))
        return kept

    @contextmanager
    def _attempt(self, data_hashes: Sequence[str]) -> Iterator[None]:
        """Counted while it lasts, so that whatever kills this run is counted; given back for any other end."""
        self._eyes.ledger.start_attempt(self._job, self._run_id, data_hashes)
        try:
            yield
        except BaseException:
            self._eyes.ledger.give_back_attempt(self._job, self._run_id, data_hashes)
            raise

    def _end(self, row: LabelRow, failure: ClipFailure | None) -> Iterator[Inferred]:
        if failure:
            self._give_up(row)
        yield row, failure

    def _lose(self, row: LabelRow) -> None:
        """Another run took the row over, since this one stood still too long; what is left of it is that run's."""
        if row.data_hash not in self._failed:
            self._tally.elsewhere[OVERTAKEN] += 1
            self._give_up(row)

    def _give_up(self, row: LabelRow) -> None:
        self._failed.add(row.data_hash)
        for clip in self.clips.pop(row.data_hash, []):
            self._asking.settle()
            clip.path.unlink(missing_ok=True)


def _deaths(record: Record | None) -> int:
    """Whole runs that died while they worked on a row; those before a `--retry-failed` are forgotten."""
    return record.attempts if record and not record.is_set_aside else 0
