"""Reads a project: its workflow, ontology, label rows and media. Creates and changes nothing on the platform."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import UUID

from encord.exceptions import LabelRowError
from encord.objects import LabelRowV2, OntologyStructure
from encord.project import Project as EncordProject
from encord.workflow.stages.agent import AgentStage
from encord.workflow.stages.annotation import AnnotationStage, AnnotationTask, AnnotationTaskStatus
from encord.workflow.workflow import WorkflowStage

from autolabel.core.rows import (
    LABELLED_TYPES,
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
    AutolabelError,
    PermanentAccessError,
    PermanentMediaError,
    PermanentNotFoundError,
    PermanentRejectedError,
    TransientMediaError,
    TransientServiceError,
)
from autolabel.protocols import Clip, Drawn
from autolabel.remote import wire
from autolabel.remote.client import Connection, remote_call, retrying
from autolabel.remote.media import Downloads
from autolabel.remote.truth import drawn

T = TypeVar("T")

READ_BUNDLE = 100
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, LabelRowError)
"""What the SDK raises over a row that it cannot make sense of."""
WITNESSES = 4
"""Rows, spread over the project, that tell whose fault it is where a file is not to be had."""


class _Picture(NamedTuple):
    """A clip that is still to be spooled, and the name of its file among the row's: see `_signed_urls`."""

    clip: Clip
    key: str


class EncordSource:
    """`protocols.Source` over the SDK. `clock` tells seconds, from any moment on."""

    def __init__(
        self, connection: Connection, max_media_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._downloads = Downloads(max_media_bytes, is_local=connection.is_local, clock=clock)
        self._witnesses: list[LabelRow] = []

    def project(self) -> Project:
        raw = self._connection.project
        structure = raw.ontology_structure
        return Project(
            project_hash=raw.project_hash,
            title=raw.title,
            workflow=Workflow(tuple(_stage(stage) for stage in raw.workflow.stages)),
            classes=_classes(structure),
            required_questions=tuple(
                question.title for question in structure.classifications if question.attributes[0].required
            ),
            role=raw.user_role.name.lower() if raw.user_role is not None else "",
        )

    @retrying
    def rows(self, dataset: str | None = None) -> list[LabelRow]:
        with remote_call("listing the project's label rows"):
            listed = self._connection.project.list_label_rows_v2()
        rows = [label_row(row) for row in listed if dataset in (None, row.dataset_hash, row.dataset_title)]
        with_media = [row for row in rows if row.data_type in LABELLED_TYPES]
        self._witnesses = with_media[:: len(with_media) // WITNESSES + 1]
        return rows

    def contents(self, rows: Sequence[LabelRow]) -> dict[str, RowContent]:
        return self._read(rows, _content)

    def drawn(self, rows: Sequence[LabelRow]) -> dict[str, Drawn]:
        return self._read(rows, drawn)

    def _read(self, rows: Sequence[LabelRow], tell: Callable[[LabelRowV2], T]) -> dict[str, T]:
        """What `tell` says of the rows that somebody opened."""
        found: dict[str, T] = {}
        for start in range(0, len(rows), READ_BUNDLE):
            hashes = [row.data_hash for row in rows[start : start + READ_BUNDLE] if row.label_hash]
            found |= self._read_some(hashes, tell)
        return found

    def _read_some(self, data_hashes: list[str], tell: Callable[[LabelRowV2], T]) -> dict[str, T]:
        """In one bundle; where the SDK cannot read some row, one by one, and that row stays unknown."""
        try:
            return self._read_bundle(data_hashes, tell) if data_hashes else {}
        except (TransientServiceError, PermanentRejectedError, PermanentNotFoundError, *UNREADABLE) as error:
            if isinstance(error, TransientServiceError) and not isinstance(error.__cause__, UNREADABLE):
                raise
            if len(data_hashes) == 1:
                return {}
            return {k: v for data_hash in data_hashes for k, v in self._read_some([data_hash], tell).items()}

    @retrying
    def _read_bundle(self, data_hashes: list[str], tell: Callable[[LabelRowV2], T]) -> dict[str, T]:
        project = self._connection.project
        with remote_call(f"reading {len(data_hashes)} rows that people opened"):
            listed = [row for row in project.list_label_rows_v2(data_hashes=data_hashes) if row.label_hash]
            with project.create_bundle() as bundle:
                for row in listed:
                    row.initialise_labels(bundle=bundle, include_archived=True)
        return {row.data_hash: tell(row) for row in listed if row.is_labelling_initialised}

    @retrying
    def skipped(self) -> frozenset[str]:
        return skipped_tasks(self._connection.project)

    @retrying
    def new_tasks(self, stage_uuid: str) -> frozenset[str]:
        return frozenset(str(task.data_hash) for task in unclaimed_tasks(self._connection.project, stage_uuid))

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        try:
            return self._download(row, folder)
        except PermanentAccessError as error:
            if not self._serves_others(row, if_none=False):
                raise
            raise TransientMediaError(f"{error}, though it signs other files of the project") from error
        except (TransientServiceError, TransientMediaError) as error:
            was_signed = isinstance(error, TransientMediaError)
            is_own = self._serves_others(row, if_none=was_signed)
            raise (TransientMediaError if is_own else TransientServiceError)(str(error)) from error

    def abandon(self) -> None:
        self._downloads.abandon()
        wire.installed().abandoned.set()

    def _serves_others(self, row: LabelRow, *, if_none: bool) -> bool:
        """Whether other media of the project are to be had now: then the trouble is this row's own."""
        others = [other for other in self._witnesses if other.data_hash != row.data_hash]
        return any(map(self._is_served, others)) if others else if_none

    def _is_served(self, row: LabelRow) -> bool:
        try:
            return any(self._downloads.is_served(url) for url in list(self._signed_urls(row).values())[:1])
        except AutolabelError:
            return False

    def _download(self, row: LabelRow, folder: Path) -> list[Clip]:
        clips: list[Clip] = []
        urls: dict[str, str] = {}
        try:
            for picture in self._group(row) if row.data_type == "img_group" else [_whole(row)]:
                path = self._fetch(row, picture.key, urls, folder)
                clips.append(replace(picture.clip, path=path))
        except BaseException:
            for clip in clips:
                clip.path.unlink()
            raise
        return clips

    def _group(self, row: LabelRow) -> list[_Picture]:
        """The frames of an image group in order, each in its own size."""
        frames = self._listed_group(row)
        return [
            _Picture(Clip(row.data_hash, Path(), (frame.frame_number,), frame.width, frame.height), frame.image_hash)
            for frame in sorted(frames, key=lambda frame: frame.frame_number)
        ]

    @retrying
    def _listed_group(self, row: LabelRow) -> list[LabelRowV2.FrameViewMetadata]:
        try:
            with remote_call(f"listing the frames of {row.title!r}"):
                (listed,) = self._connection.project.list_label_rows_v2(
                    data_hashes=[row.data_hash], include_images_data=True
                )
                return listed.get_frames_metadata()
        except (PermanentNotFoundError, ValueError) as error:
            raise PermanentMediaError(Reason.GONE, "its frames are not to be had from the platform") from error
        except PermanentRejectedError as error:
            raise PermanentMediaError(Reason.DOWNLOAD, str(error)) from error

    @retrying
    def _fetch(self, row: LabelRow, key: str, urls: dict[str, str], folder: Path) -> Path:
        """Stream a file of the row, signing all of them where its URL is not in `urls`.

        A URL is used once: a retry signs again, so that one that ran out is only a lost second.
        """
        self._downloads.go_on()
        if key not in urls:
            urls |= self._signed_urls(row)
        if key not in urls:
            raise PermanentMediaError(Reason.GONE, "the platform has no file for it, or not for all of its frames")
        return self._downloads.fetch(urls.pop(key), folder)

    def _signed_urls(self, row: LabelRow) -> dict[str, str]:
        """Where to get the row's files, in one request: by image hash in a group, else by the row's data hash."""
        try:
            with remote_call(f"signing the media of {row.title!r}"):
                if row.data_type == "img_group":
                    _, images = self._connection.project.get_data(row.data_hash, get_signed_url=True)
                    found = {image.image_hash: image.file_link for image in images or ()}
                else:
                    (item,) = self._connection.client.get_storage_items([row.item_uuid], sign_url=True)
                    found = {row.data_hash: item.get_signed_url()}
        except (PermanentNotFoundError, ValueError) as error:
            raise PermanentMediaError(Reason.GONE, "its file is not to be had from the platform") from error
        except PermanentRejectedError as error:
            raise PermanentMediaError(Reason.DOWNLOAD, str(error)) from error
        return {key: url for key, url in found.items() if url}


def _whole(row: LabelRow) -> _Picture:
    """The row's one file, a picture or a video."""
    frames = row.frames if row.is_video else None
    clip = Clip(row.data_hash, Path(), range(row.frames), row.width_px, row.height_px, frames)
    return _Picture(clip, row.data_hash)


def skipped_tasks(project: EncordProject, data_hashes: list[str] | None = None) -> frozenset[str]:
    """Data hashes of tasks, all or those of some data units, that a person skipped at the first human stage."""
    stage = next((stage for stage in project.workflow.stages if isinstance(stage, AnnotationStage)), None)
    if stage is None:
        return frozenset()
    with remote_call(f"listing skipped tasks at {stage.title}"):
        tasks = stage.get_tasks(data_hash=data_hashes, status=AnnotationTaskStatus.SKIPPED)
        return frozenset(str(task.data_hash) for task in tasks)


def unclaimed_tasks(
    project: EncordProject, stage_uuid: str, data_hashes: list[str] | None = None
) -> list[AnnotationTask]:
    """Tasks at an annotation stage, all or those of some data units, that nobody has and nobody ever had there."""
    stage = project.workflow.get_stage(uuid=UUID(stage_uuid), type_=AnnotationStage)
    with remote_call(f"listing new tasks at {stage.title}"):
        tasks = list(stage.get_tasks(data_hash=data_hashes, status=AnnotationTaskStatus.NEW))
    return [task for task in tasks if task.assignee is None]


def _stage(stage: WorkflowStage) -> Stage:
    ways = stage.pathways if isinstance(stage, AgentStage) else []
    return Stage(
        uuid=str(stage.uuid),
        title=stage.title,
        kind=stage.stage_type.value,
        pathways=tuple(Pathway(str(way.uuid), way.name, str(way.destination_uuid)) for way in ways),
    )


def _classes(structure: OntologyStructure) -> tuple[OntologyClass, ...]:
    return tuple(
        OntologyClass(
            feature_hash=item.feature_node_hash,
            name=item.name,
            shape=item.shape.value,
            color=item.color,
            required=tuple(attribute.name for attribute in item.attributes if attribute.required),
        )
        for item in structure.objects
        if not item.archived
    )


def label_row(row: LabelRowV2) -> LabelRow:
    node = row.workflow_graph_node
    return LabelRow(
        data_hash=row.data_hash,
        title=row.data_title,
        data_type=row.data_type.value.lower(),
        dataset_title=row.dataset_title,
        width_px=row.width or 0,
        height_px=row.height or 0,
        frames=row.number_of_frames,
        priority=row.priority or 0.0,
        label_hash=row.label_hash,
        stage_uuid=str(node.uuid) if node else "",
        assigned_to=row.assigned_user_email,
        item_uuid=str(row.backing_item_uuid or ""),
        frames_per_second=row.fps,
        edited_at_s=edited_at_s(row),
    )


def edited_at_s(row: LabelRowV2) -> float | None:
    """Of a row as it was listed: opening it leaves whole seconds only."""
    return row.last_edited_at.timestamp() if row.last_edited_at is not None else None


def _content(row: LabelRowV2) -> RowContent:
    objects = row.get_object_instances()
    by_hand = any(found.manual_annotation for item in objects for found in item.get_annotations())
    return RowContent(
        {item.object_hash: item.feature_hash for item in objects},
        by_hand or bool(row.get_classification_instances()),
    )
