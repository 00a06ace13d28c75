"""An in-memory platform behind `Source` and `Sink`, and an `Inference` that follows a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolabel.core.assemble import Instance
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.core.rows import (
    LabelRow,
    OntologyClass,
    Pathway,
    Project,
    Reason,
    RowContent,
    Stage,
    Workflow,
)
from autolabel.errors import (
    Interrupted,
    PermanentAccessError,
    PermanentInferenceError,
    PermanentRejectedError,
    TransientWorkerDiedError,
)
from autolabel.evaluation.values import TimeEntry
from autolabel.protocols import (
    Claim,
    Clip,
    ClipAnswer,
    ClipFailure,
    Drawn,
    Left,
    Outcome,
    Pending,
    Receipt,
    Refused,
    Reviewed,
    Standing,
    Write,
)
from autolabel.recipe import ModelChoice, Recipe, RecipeConfig

ANNOTATE = Stage("stage-annotate", "Annotate", "ANNOTATION")
REVIEW = Stage("stage-review", "Review", "REVIEW")
DONE = Stage("stage-done", "Complete", "DONE")
AGENT = Stage("stage-agent", "Pre-label", "AGENT", (Pathway("way-1", "annotate", ANNOTATE.uuid),))
CAR = OntologyClass("car00001", "Car", "bounding_box", "#D33115")
ROAD = OntologyClass("road0001", "Road", "polyline", "#123456")
RECIPE = Recipe(
    RecipeConfig(detector=ModelChoice(family="scripted", weights="none"), max_instances=3),
    PromptPlan((ClassPlan("car00001", "Car", "bounding_box", ("car",), 0.3, 3),)),
    "digest-of-detector",
    "",
)


def make_row(name: str, **changes: object) -> LabelRow:
    row = LabelRow(
        data_hash=name,
        title=f"{name}.png",
        data_type="image",
        dataset_title="ds",
        width_px=100,
        height_px=50,
        frames=1,
        priority=0.5,
        label_hash=None,
        stage_uuid=ANNOTATE.uuid,
        assigned_to=None,
        item_uuid=f"item-{name}",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def make_project(*stages: Stage) -> Project:
    return Project("project-1", "Cars", Workflow(stages or (ANNOTATE, REVIEW, DONE)), (CAR, ROAD))


class FakePlatform:
    """`Source` and `Sink` at once; `before_...` is where a person comes first, `writes` lists every effect."""

    def __init__(self, rows: Sequence[LabelRow], project: Project | None = None) -> None:
        self._project = project or make_project()
        self.listed = {row.data_hash: row for row in rows}
        self.human: dict[str, RowContent] = {}
        self.finished: dict[str, Drawn] = {}
        self.branch: dict[str, tuple[str, ...]] = {}
        self.main: dict[str, tuple[str, ...]] = {}
        self.moved: list[tuple[str, str]] = []
        self.writes: list[str] = []
        self.refuses: set[str] = set()
        self.immovable: set[str] = set()
        self.skips: set[str] = set()
        self.not_new: set[str] = set()
        self.unreadable: dict[str, Exception] = {}
        self.before_copy: Callable[[], None] = lambda: None
        self.before_pull: Callable[[], None] = lambda: None
        self.before_save: Callable[[], None] = lambda: None
        self.fail_next_write: Exception | None = None

    def project(self) -> Project:
        return self._project

    def rows(self, dataset: str | None = None) -> list[LabelRow]:
        return [row for row in self.listed.values() if dataset in (None, row.dataset_title)]

    def contents(self, rows: Sequence[LabelRow]) -> dict[str, RowContent]:
        ours = {key: RowContent(dict.fromkeys(hashes, CAR.feature_hash), False) for key, hashes in self.main.items()}
        return {row.data_hash: (ours | self.human)[row.data_hash] for row in rows}

    def drawn(self, rows: Sequence[LabelRow]) -> dict[str, Drawn]:
        return {row.data_hash: self.finished[row.data_hash] for row in rows if row.data_hash in self.finished}

    def skipped(self) -> frozenset[str]:
        return frozenset(self.skips)

    def new_tasks(self, stage_uuid: str) -> frozenset[str]:
        at_stage = [row for row in self.listed.values() if row.stage_uuid == stage_uuid and row.assigned_to is None]
        return frozenset(row.data_hash for row in at_stage) - self.not_new

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        if row.data_hash in self.unreadable:
            raise self.unreadable[row.data_hash]
        frames = [range(index, index + 1) for index in range(row.frames)]
        clips = [
            Clip(row.data_hash, folder / f"{row.data_hash}-{one[0]}", one, row.width_px, row.height_px)
            for one in frames
        ]
        if row.is_video:
            clips = [replace(clips[0], frame_indices=range(row.frames), video_frames=row.frames)]
        for clip in clips:
            clip.path.write_bytes(b"picture")
        return clips

    def abandon(self) -> None:
        pass

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        if self.fail_next_write:
            error, self.fail_next_write = self.fail_next_write, None
            raise error
        return {write.row.data_hash: self._save(write) for write in writes}

    def _save(self, write: Write) -> Outcome:
        key = write.row.data_hash
        if key in self.refuses:
            return Refused(Reason.REJECTED, f"{key} refused")
        hashes = self.branch.get(key) or tuple(item.object_hash for item in write.instances)
        if key not in self.branch:
            self.branch[key] = hashes
            self.writes.append(f"save {key}")
        return Receipt(RECIPE.branch, f"b-{key}", dict.fromkeys(hashes, CAR.feature_hash), "digest")

    def copy_to_main(self, rows: Sequence[LabelRow], *, include_assigned: bool) -> Mapping[str, Outcome]:
        self.before_copy()
        return {row.data_hash: self._copy(row.data_hash, include_assigned) for row in rows}

    def _copy(self, key: str, include_assigned: bool) -> Outcome:
        if key in self.human:
            return Left(Reason.HUMAN_CONTENT)
        if self.listed[key].assigned_to and not include_assigned:
            return Left(Reason.ASSIGNED)
        if key not in self.main:
            self.main[key] = self.branch[key]
            self.writes.append(f"copy {key}")
            self.listed[key] = replace(self.listed[key], label_hash=f"m-{key}")
        edited_at_s = self.listed[key].edited_at_s
        return Receipt("main", f"m-{key}", dict.fromkeys(self.main[key], CAR.feature_hash), "digest", edited_at_s)

    def pull(self, rows: Sequence[LabelRow], from_stage_uuid: str, to_stage_uuid: str) -> None:
        self.before_pull()
        for key in self.new_tasks(from_stage_uuid) & {row.data_hash for row in rows}:
            self.writes.append(f"pull {key}")
            self.listed[key] = replace(self.listed[key], stage_uuid=to_stage_uuid)

    def save_at_stage(self, writes: Sequence[Write], stage_uuid: str) -> Mapping[str, Outcome]:
        self.before_save()
        if self.fail_next_write:
            error, self.fail_next_write = self.fail_next_write, None
            raise error
        return {write.row.data_hash: self._save_on_main(write, stage_uuid) for write in writes}

    def _save_on_main(self, write: Write, stage_uuid: str) -> Outcome:
        key = write.row.data_hash
        row, hashes = self.listed[key], tuple(item.object_hash for item in write.instances)
        if key in self.refuses:
            return Refused(Reason.REJECTED, f"{key} refused")
        if row.assigned_to or row.stage_uuid != stage_uuid:
            return Left(Reason.ASSIGNED if row.assigned_to else Reason.WRONG_STAGE)
        if key in self.human and self.human[key].objects:
            return Left(Reason.HUMAN_CONTENT)
        if key not in self.main:
            self.main[key] = hashes
            self.writes.append(f"save {key} on main")
            self.listed[key] = replace(row, label_hash=f"m-{key}")
        return Receipt("main", f"m-{key}", dict.fromkeys(hashes, CAR.feature_hash), "digest", row.edited_at_s)

    def edit(self, key: str, *objects: str) -> None:
        """A person saves a row: these objects stand there then."""
        self.human[key] = RowContent(dict.fromkeys(objects, CAR.feature_hash), False)
        before_s = self.listed[key].edited_at_s or 0.0
        self.listed[key] = replace(self.listed[key], label_hash=f"m-{key}", edited_at_s=before_s + 1.0)
        self.main.pop(key, None)

    def proceed(self, rows: Sequence[LabelRow], stage_uuid: str, pathway_uuid: str) -> frozenset[str]:
        moving = [row for row in rows if row.data_hash not in self.immovable]
        for row in moving:
            self.moved.append((row.data_hash, pathway_uuid))
            self.writes.append(f"move {row.data_hash}")
            self.listed[row.data_hash] = replace(self.listed[row.data_hash], stage_uuid=ANNOTATE.uuid)
        return frozenset(row.data_hash for row in moving)


class FakeRetractor:
    """A `Retractor` over what stands by (branch, data hash); `new` tasks nobody began; `refuses` rows are not saved.

    `before_remove` is where a person comes first; `moves` lists (data hash, to which stage).
    """

    def __init__(self, standing: Mapping[tuple[str, str], Standing]) -> None:
        self.standing = dict(standing)
        self.new: set[str] = set()
        self.refuses: set[str] = set()
        self.moves: list[tuple[str, str]] = []
        self.before_remove: Callable[[], None] = lambda: None
        self.dies_after_remove = False

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Standing]:
        keys = {claim.data_hash: (claim.branch, claim.data_hash) for claim in claims}
        return {name: self.standing[key] for name, key in keys.items() if key in self.standing}

    def remove(self, claim: Claim, choose: Callable[[Standing], frozenset[str]]) -> Standing | None:
        self.before_remove()
        key = (claim.branch, claim.data_hash)
        if claim.data_hash in self.refuses:
            raise PermanentRejectedError(f"{claim.data_hash} refused")
        if key in self.standing:
            stands = self.standing[key]
            self.standing[key] = replace(stands, untouched=stands.untouched - choose(stands))
        if self.dies_after_remove:
            self.dies_after_remove = False
            raise Interrupted
        return self.standing.get(key)

    def waiting(self, stage_uuid: str, data_hashes: Sequence[str]) -> frozenset[str]:
        return frozenset(self.new.intersection(data_hashes))

    def move(self, data_hash: str, from_uuid: str, to_uuid: str) -> None:
        for key, stands in self.standing.items():
            if key[1] == data_hash and stands.row.stage_uuid == from_uuid and stands.row.assigned_to is None:
                self.standing[key] = replace(stands, row=replace(stands.row, stage_uuid=to_uuid))
                self.moves.append((data_hash, to_uuid))


class FakeInspector:
    """An `Inspector` to which people `made` so much of rows, by data hash; `refuses` to tell times."""

    def __init__(
        self, made: Mapping[str, Reviewed], spent: Sequence[TimeEntry] = (), *, refuses: bool = False
    ) -> None:
        self._made, self._spent, self._refuses = made, spent, refuses

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Reviewed]:
        return {claim.data_hash: self._made[claim.data_hash] for claim in claims if claim.data_hash in self._made}

    def time_spent(self, stage_uuids: Sequence[str], since: datetime) -> list[TimeEntry]:
        if self._refuses:
            raise PermanentAccessError("the key may not read timers")
        return [entry for entry in self._spent if entry.stage_uuid in stage_uuids]


class FakeGallery:
    """Notes each row with its objects and whether its media were there to be looked at."""

    def __init__(self) -> None:
        self.shown: dict[str, tuple[int, bool]] = {}

    def add(self, row: LabelRow, instances: Sequence[Instance], clips: Sequence[Clip]) -> None:
        self.shown[row.data_hash] = (len(instances), bool(clips) and all(clip.path.exists() for clip in clips))


class ScriptedInference:
    """Finds `cars` on every frame; dies on `poison`, cannot answer `odd`, and a signal comes at frame `dies_at`.

    A clip with frame `fails_at` fails; after frame `sees_until` nothing is found, after `crowded_until` none dropped.
    Frame `breaks_at` breaks the device, once: until `close` nothing is answered any more.
    `asked` lists the clips of every call, `indices` the frames that were answered.
    """

    def __init__(
        self, cars: int = 1, poison: frozenset[str] = frozenset(), odd: frozenset[str] = frozenset(), dropped: int = 0
    ) -> None:
        self._cars, self._poison, self._odd, self._dropped = cars, poison, odd, dropped
        self.asked: list[list[str]] = []
        self.indices: list[int] = []
        self.dies_at: int | None = None
        self.fails_at: int | None = None
        self.breaks_at: int | None = None
        self.has_memory = True
        self._is_broken = False
        self.sees_until = self.crowded_until = sys.maxsize

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        self.asked.append([clip.data_hash for clip in clips])
        if any(clip.data_hash in self._poison for clip in clips):
            raise TransientWorkerDiedError("signal 9")
        if any(clip.data_hash in self._odd for clip in clips):
            raise PermanentInferenceError("mat1 and mat2 shapes cannot be multiplied")
        indices = [index for clip in clips for index in clip.frame_indices]
        if self.breaks_at in indices:
            self.breaks_at, self._is_broken = None, True
        if self._is_broken:
            raise PermanentInferenceError("CUDA error: device-side assert triggered")
        if self.dies_at in indices:
            raise Interrupted
        return [self._answer(clip) for clip in clips]

    def _answer(self, clip: Clip) -> list[FrameLabels] | ClipFailure:
        if not self.has_memory:
            return ClipFailure(Reason.OOM, "the device has no memory for one frame")
        if self.fails_at in clip.frame_indices:
            return ClipFailure(Reason.FRAME_COUNT, "frames are missing")
        self.indices += clip.frame_indices
        return [self._frame(clip, index) for index in clip.frame_indices]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        """25 frames a second."""
        if clip.data_hash in self._poison:
            raise TransientWorkerDiedError("signal 9")
        return np.arange(clip.video_frames or 0) / 25

    def _frame(self, clip: Clip, index: int) -> FrameLabels:
        cars = tuple(
            Detection(CAR.feature_hash, "car", 0.9 - 0.1 * i, (5.0 + i, 5.0, 50.0, 40.0))
            for i in range(self._cars if index <= self.sees_until else 0)
        )
        dropped = {CAR.feature_hash: self._dropped} if self._dropped and index <= self.crowded_until else {}
        return FrameLabels(index, clip.width_px, clip.height_px, cars, dropped, "digest")

    def close(self) -> None:
        self._is_broken = False
