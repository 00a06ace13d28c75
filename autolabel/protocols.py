"""Every seam of the program on one page, with the values that cross it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autolabel.core.assemble import Instance
from autolabel.core.detections import Detections, FrameLabels, Mask
from autolabel.core.prompts import PromptPlan
from autolabel.core.rows import LabelRow, Project, Reason, RowContent
from autolabel.evaluation.values import TimeEntry, Track

RGB = NDArray[np.uint8]
"""(H, W, 3) uint8, red first, upright as the platform shows it."""


@dataclass(frozen=True)
class Clip:
    """Some frames of one label row in one spooled file: what a worker decodes.

    - `frame_indices`: within the label row, rising; a still picture has one, within a group its place there.
    - `width_px`, `height_px`: what the platform says of the picture; one of another size is refused.
    - `video_frames`: how many frames the platform counts in the file; None where it is a still picture.
    """

    data_hash: str
    path: Path
    frame_indices: Sequence[int]
    width_px: int
    height_px: int
    video_frames: int | None = None


@dataclass(frozen=True)
class ClipFailure:
    """A clip that cannot be used, and why; the rest of its batch is not touched by it."""

    reason: Reason
    message: str


ClipAnswer = list[FrameLabels] | ClipFailure
Pending = Callable[[], list[ClipAnswer]]
"""Waits for the answers to a question, one a clip and in the same order. To be called once; see `Inference.ask`."""


class TextDetector(Protocol):
    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """Look for the plan's prompts.

        - One result an image, in the same order; `images` may be empty and may differ in size.
        - `scores` has one column a prompt of `plan.prompts`, in its order, in [0, 1].
        - No threshold is applied beyond dropping what could never matter; suppression is the pipeline's.
        - Masks may already be there; the pipeline asks a BoxSegmenter only for detections without one.
        """
        ...


class BoxSegmenter(Protocol):
    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        """A Mask a box, in the same order; box lists (n, 4) may be empty or ragged. Never N full-size arrays."""
        ...


class Tracker(Protocol):
    def step(self, boxes_xyxy_px: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int32]:
        """The next frame's detections (N, 4), (N,) of one class -> the track of each (N,), 0 or more, each once.

        One fresh tracker a row and class, given every frame that was looked at, also those without detections:
        replaying stored detections gives the same tracks, so that there is no state to save.
        """
        ...


class FrameReader(Protocol):
    """What decodes clips. Both methods raise PermanentMediaError with its reason.

    For a file that is no such picture or video, too large, of another size, or with another count of frames.
    """

    def read(self, clip: Clip) -> Iterable[tuple[int, RGB]]:
        """Decode a clip's frames in order, as (frame index, picture): one in memory at a time."""
        ...

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        """When each frame of a video's file is shown, in seconds after the first: (video_frames,), rising."""
        ...


class Inference(Protocol):
    """The inference process as its users see it. Not shared between threads."""

    def ask(self, clips: Sequence[Clip]) -> Pending:
        """Begin to look at clips. Stateless: any mix of rows, any order, any batch.

        A question may be asked before the one before it is answered: its clips are decoded meanwhile. Answers are
        waited for in the order of the questions. Raises PermanentModelError when the models cannot be loaded; the
        answer then raises TransientWorkerDiedError when the process ended or was ended, since it gave no answer for
        far too long, while this question or one before it was open (the next question starts another), and
        PermanentInferenceError when the models cannot answer these clips.
        """
        ...

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        """See `FrameReader`; raises as it does, and TransientWorkerDiedError."""
        ...

    def close(self) -> None:
        """End the process, over open questions too; the next one starts another."""
        ...


@dataclass(frozen=True)
class Drawn:
    """What stands in a row, as the models would answer it: pixels of its frames.

    - `frames`: in order: all of an image or a group, of a video those on which something stands. Detections have
      score 1, no prompt, and a mask where their shape is none of a box.
    - `other_objects`: those of which nothing came into `frames`: of another shape, or without area in the frame.
    - `ours_like`: those that are marked as made by a machine.
    """

    frames: tuple[FrameLabels, ...]
    other_objects: int
    ours_like: int


class Source(Protocol):
    """What is read from the platform. Nothing here creates or changes anything there."""

    def project(self) -> Project: ...

    def rows(self, dataset: str | None = None) -> list[LabelRow]:
        """All label rows of `main`, or of one dataset (title or hash); metadata only."""
        ...

    def contents(self, rows: Sequence[LabelRow]) -> dict[str, RowContent]:
        """What stands in rows that have a label hash, by data hash; rows that vanished are missing."""
        ...

    def drawn(self, rows: Sequence[LabelRow]) -> dict[str, Drawn]:
        """What is drawn in rows that have a label hash, by data hash; rows that cannot be read are missing."""
        ...

    def skipped(self) -> frozenset[str]:
        """Data hashes of tasks that a person skipped at the first human stage."""
        ...

    def new_tasks(self, stage_uuid: str) -> frozenset[str]:
        """Data hashes of tasks at an annotation stage that nobody has and nobody ever had there."""
        ...

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        """Spool a row's media, under limits, into new files of `folder`.

        Raises, after its own retries: PermanentMediaError (too large, gone, refused); TransientMediaError for what
        may be had another time; TransientServiceError when the platform, and no row of it, is out of reach;
        PermanentAccessError for a key that may see no media at all.
        """
        ...

    def abandon(self) -> None:
        """The run ends: downloads and waits on other threads raise Interrupted soon, and later ones at once."""
        ...


@dataclass(frozen=True)
class Write:
    """A row and all that is to stand in it.

    - `landed`: it was written and read back there before, and keeps what it has.
    - `announced`: an earlier run was about to write the very same; what stands there must be that, whole.
    - `samples_per_second`: how many frames a second of a video were looked at; None for pictures.
    """

    row: LabelRow
    instances: tuple[Instance, ...]
    landed: bool = False
    announced: bool = False
    samples_per_second: float | None = None


@dataclass(frozen=True)
class Receipt:
    """What the platform served back after a write.

    - `objects`: object hash -> class feature hash, of the objects that are ours and that nobody touched.
    - `digest`: SHA-256 over everything that stands there, as served, canonical.
    - `edited_at_s`: as the listing said of the row just before; see `LabelRow`.
    - `samples_per_second`: how many frames a second of a video were looked at; None for pictures.
    """

    branch: str
    label_hash: str
    objects: Mapping[str, str]
    digest: str
    edited_at_s: float | None = None
    samples_per_second: float | None = None


@dataclass(frozen=True)
class Left:
    """A row that was not taken after all: a person came first, and what stands there is theirs."""

    reason: Reason


@dataclass(frozen=True)
class Refused:
    """A row that the platform or the read-back refuses; it is set aside with the message."""

    reason: Reason
    message: str


Outcome = Receipt | Left | Refused


class Sink(Protocol):
    """What is written to the platform. Idempotent: the same call again has the effect of one."""

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        """Put rows on our own branch and read them back; by data hash. `main` is not touched.

        A branch row that holds anything is not written again: what people changed there, they meant.
        """
        ...

    def copy_to_main(self, rows: Sequence[LabelRow], *, include_assigned: bool) -> Mapping[str, Outcome]:
        """Copy rows from our branch to `main` where `main` has none, and read `main` back; by data hash."""
        ...

    def pull(self, rows: Sequence[LabelRow], from_stage_uuid: str, to_stage_uuid: str) -> None:
        """Move tasks that are still new and nobody's from an annotation stage to the Agent stage.

        A task that a person has taken by then stays where it is, or goes back.
        """
        ...

    def save_at_stage(self, writes: Sequence[Write], stage_uuid: str) -> Mapping[str, Outcome]:
        """Put rows straight on `main` whose tasks sit, unassigned, at the Agent stage; read back; by data hash.

        A save there replaces a whole row, so the caller has the project for itself. Only rows in which nothing stands
        are written. A row whose write an earlier run announced is read first, wherever its task is by now, and not
        written again where it landed.
        """
        ...

    def proceed(self, rows: Sequence[LabelRow], stage_uuid: str, pathway_uuid: str) -> frozenset[str]:
        """Move tasks on from the Agent stage and return the rows that have left it, by whomever.

        A task that the platform refuses to move stops no other.
        """
        ...


@dataclass(frozen=True)
class Claim:
    """What a run wrote into a row of one branch.

    - `objects`: their hashes; None where the run died before it was told, and may have written all of `instances`.
    - `digest`: of all that was served after the write, "" where that is not known.
    - `instances`: a row -> what its stored detections come to; asked only where the digest does not tell.
    """

    branch: str
    data_hash: str
    objects: frozenset[str] | None
    digest: str
    instances: Callable[[LabelRow], tuple[Instance, ...]]


@dataclass(frozen=True)
class Standing:
    """What stands of a claim now.

    - `row`: as it is listed now, with its stage and assignee.
    - `untouched`: hashes of claimed objects that stand as they were written, without answers.
    - `touched`: hashes of claimed objects that somebody moved, edited, answered or changed in any other way.
    - `has_others`: whether anything else stands in the row.
    - `is_readable`: False where what stands there cannot be told, and nothing else here is said of it.
    """

    row: LabelRow
    untouched: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    has_others: bool = False
    is_readable: bool = True


class Retractor(Protocol):
    """Takes labels back that a run wrote. Idempotent: what is gone already is not asked for again."""

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Standing]:
        """What stands of claims of one branch, by data hash; rows that vanished are missing. Only reads."""
        ...

    def remove(self, claim: Claim, choose: Callable[[Standing], frozenset[str]]) -> Standing | None:
        """Read a row afresh, remove what `choose` names of its untouched objects, save once, read back.

        All else in the row is saved as it was read. What stands then; None for a row that vanished.
        """
        ...

    def waiting(self, stage_uuid: str, data_hashes: Sequence[str]) -> frozenset[str]:
        """Which of these tasks nobody has begun at a human stage: new there, and assigned to nobody."""
        ...

    def move(self, data_hash: str, from_uuid: str, to_uuid: str) -> None:
        """Move a task between stages if it is at the first and assigned to nobody; from a human stage, if new."""
        ...


@dataclass(frozen=True)
class Reviewed:
    """What was written into a row, and what stands there now.

    - `row`: as it is listed now.
    - `written`: the claimed objects, as far as it can be told what they were.
    - `standing`: None where what stands there cannot be read.
    - `as_written`: hashes of objects that stand as they were on every frame on which they were written; these have no
      places above, since nobody need compare them.
    """

    row: LabelRow
    written: tuple[Track, ...] = ()
    standing: tuple[Track, ...] | None = ()
    as_written: frozenset[str] = frozenset()


class Inspector(Protocol):
    """Reads what people made of our labels, and how long that took them. Changes nothing."""

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Reviewed]:
        """What stands of claims on one branch, by data hash; rows that vanished are missing."""
        ...

    def time_spent(self, stage_uuids: Sequence[str], since: datetime) -> list[TimeEntry]:
        """How long each person worked on each data unit at these stages, from the day of `since` on."""
        ...


class Gallery(Protocol):
    """Rows to look at when the run is over. Not shared between threads."""

    def add(self, row: LabelRow, instances: Sequence[Instance], clips: Sequence[Clip]) -> None:
        """A row that is done, labelled or empty, while its media are still there.

        `clips` is empty where the row was inferred by an earlier run. Whatever their files hold, nothing is raised.
        """
        ...
