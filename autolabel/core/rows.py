"""Label rows, workflow and ontology as values, and why a row may not be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autolabel.core.identity import unit_interval

MAIN_BRANCH = "main"
"""The label branch on which people work."""


class Destination(StrEnum):
    """Where labels go: straight to `main` while tasks sit at our Agent stage, to `main` by way of our own branch, or
    to that branch alone."""

    AGENT_STAGE = "agent-stage"
    MAIN = "main"
    BRANCH = "branch"


class Reason(StrEnum):
    """Why a row is left alone or set aside: words for people and counts. Beyond that only the pathway hangs on it."""

    HUMAN_CONTENT = "human_content"
    HAS_ROW_EMPTY = "has_row_empty"
    OURS_THIS_RECIPE = "ours_this_recipe"
    OURS_OTHER_RECIPE = "ours_other_recipe"
    WRONG_STAGE = "wrong_stage"
    ASSIGNED = "assigned"
    SKIPPED_BY_HUMAN = "skipped_by_human"
    TASK_NOT_NEW = "task_not_new"
    REPLACED_BY_HUMAN = "replaced_by_human"
    UNSUPPORTED_TYPE = "unsupported_type"
    HOLDOUT = "holdout"
    GONE = "gone"
    DECODE = "decode"
    WRONG_SIZE = "wrong_size"
    FRAME_COUNT = "frame_count"
    TOO_LARGE = "too_large"
    DOWNLOAD = "download"
    CRASH = "crash"
    OOM = "oom"
    INVALID_OUTPUT = "invalid_output"
    REJECTED = "rejected"
    READ_BACK = "read_back"
    UNDONE = "undone"


REASON_TEXT: Mapping[Reason, str] = {
    Reason.HUMAN_CONTENT: "people have labelled here",
    Reason.HAS_ROW_EMPTY: "opened by someone, nothing drawn",
    Reason.OURS_THIS_RECIPE: "pre-labelled by this recipe already",
    Reason.OURS_OTHER_RECIPE: "pre-labelled by another recipe",
    Reason.WRONG_STAGE: "not waiting at a stage that this push serves",
    Reason.ASSIGNED: "assigned to a person",
    Reason.SKIPPED_BY_HUMAN: "skipped by a person",
    Reason.TASK_NOT_NEW: "a person had the task before",
    Reason.REPLACED_BY_HUMAN: "labelled by us, then emptied or replaced by people",
    Reason.UNSUPPORTED_TYPE: "data type not supported",
    Reason.HOLDOUT: "held out, so that time saved can be measured",
    Reason.GONE: "no longer in the project",
    Reason.DECODE: "the file is no picture or video that can be decoded",
    Reason.WRONG_SIZE: "the picture's size is not what the platform says",
    Reason.FRAME_COUNT: "it has no frames, or others than the platform counts",
    Reason.TOO_LARGE: "over the limit on pixels or bytes",
    Reason.DOWNLOAD: "the file could not be downloaded",
    Reason.CRASH: "inference died on it again and again",
    Reason.OOM: "the device has too little memory for it, even alone",
    Reason.INVALID_OUTPUT: "the model's answer was malformed",
    Reason.REJECTED: "the platform refuses its labels",
    Reason.READ_BACK: "what the platform serves is not what was written",
    Reason.UNDONE: "labelled by this recipe before, and undone",
}


@dataclass(frozen=True)
class Pathway:
    uuid: str
    title: str
    destination_uuid: str


@dataclass(frozen=True)
class Stage:
    """`kind` is the platform's word: ANNOTATION, REVIEW, CONSENSUS_ANNOTATION, CONSENSUS_REVIEW, AGENT or DONE."""

    uuid: str
    title: str
    kind: str
    pathways: tuple[Pathway, ...] = ()


@dataclass(frozen=True)
class Workflow:
    stages: tuple[Stage, ...]

    @property
    def human_stages(self) -> tuple[Stage, ...]:
        """Where people annotate."""
        return tuple(stage for stage in self.stages if stage.kind == "ANNOTATION")

    @property
    def first_human_stage(self) -> Stage | None:
        """Where annotators begin."""
        return next(iter(self.human_stages), None)

    def agent_stage(self, title: str | None) -> Stage | None:
        """The Agent stage of that title; without one, the only stage that hands over to the first annotators.

        None where no stage fits, or several do: an Agent stage may be somebody else's.
        """
        agents = [stage for stage in self.stages if stage.kind == "AGENT"]
        if title is not None:
            return next((stage for stage in agents if stage.title == title), None)
        first = self.first_human_stage
        before = [s for s in agents if first and any(way.destination_uuid == first.uuid for way in s.pathways)]
        return before[0] if len(before) == 1 else None

    @property
    def has_consensus(self) -> bool:
        return any(stage.kind.startswith("CONSENSUS") for stage in self.stages)


@dataclass(frozen=True)
class OntologyClass:
    """An ontology object: `shape` is the platform's word; `required` names the attributes people must answer."""

    feature_hash: str
    name: str
    shape: str
    color: str
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """`role` is what the key's owner is in it, in the platform's word (`admin`, `annotator` ...); "" if unknown."""

    project_hash: str
    title: str
    workflow: Workflow
    classes: tuple[OntologyClass, ...]
    required_questions: tuple[str, ...] = ()
    role: str = ""


LABELLED_TYPES = frozenset({"image", "img_group", "video"})


@dataclass(frozen=True)
class LabelRow:
    """A label row's metadata as the listing gives it; reading it creates nothing.

    - `width_px`, `height_px`: 0 for an image group, whose frames may differ.
    - `label_hash`: None until somebody, or something, opened the row on `main`.
    - `frames_per_second`: of a video, as the platform counts it; None for pictures.
    - `edited_at_s`: when its labels on `main` changed last, in seconds since 1970; None where it has none.
    """

    data_hash: str
    title: str
    data_type: str
    dataset_title: str
    width_px: int
    height_px: int
    frames: int
    priority: float
    label_hash: str | None
    stage_uuid: str
    assigned_to: str | None
    item_uuid: str
    frames_per_second: float | None = None
    edited_at_s: float | None = None

    @property
    def is_video(self) -> bool:
        return self.data_type == "video"


@dataclass(frozen=True)
class RowContent:
    """What stands in a row that was opened.

    - `objects`: object hash -> class feature hash.
    - `has_human_work`: an object is marked as drawn by hand, or a frame question is answered.
    """

    objects: Mapping[str, str]
    has_human_work: bool


@dataclass(frozen=True)
class Context:
    """What the judgement of a row needs beside the row itself.

    - `waiting_stages`: uuids of the stages at which tasks wait for us or for the first annotator.
    - `takes_empty`: whether a row that was opened, but in which nothing stands, may be taken.
    - `landed`: data hashes of rows that held labels of ours on `main` once: empty, they were emptied.
    - `contents`: data hash -> what stands in rows that have a label hash.
    - `recipe_id`: of the present recipe.
    - `ours`: data hash -> object hash -> the recipe whose receipt names it there.
    - `named_by_recipe`: whether the present recipe can have named all these objects of a row (hash -> class feature
      hash). It needs no ledger, but time.
    - `skipped`: data hashes of tasks that a person skipped at the first human stage.
    - `not_new`: data hashes of tasks that a person had, though nobody has them now; asked of no other destination
      than that which moves tasks away from people.
    - `include_assigned`: whether tasks that a person is assigned to are taken, while nobody opened their row.
    - `holdout`: share of data units, in [0, 1], that people label from nothing; chosen by hash, so always the same.
    """

    waiting_stages: frozenset[str]
    contents: Mapping[str, RowContent] = field(default_factory=dict)
    recipe_id: str = ""
    ours: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    takes_empty: bool = False
    landed: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    not_new: frozenset[str] = frozenset()
    include_assigned: bool = False
    holdout: float = 0.0
    named_by_recipe: Callable[[LabelRow, Mapping[str, str]], bool] = lambda row, objects: False


def reason_to_leave(row: LabelRow, context: Context) -> Reason | None:
    """Why this row may not be taken, or None. People's work comes first, then everything else."""
    if row.label_hash is not None and (stands := _reason_for_opened(row, context)):
        return stands
    if row.data_type not in LABELLED_TYPES:
        return Reason.UNSUPPORTED_TYPE
    if row.stage_uuid not in context.waiting_stages:
        return Reason.WRONG_STAGE
    had = _reason_of_task(row, context)
    is_held_out = had is None and unit_interval("holdout", row.data_hash) < context.holdout
    return Reason.HOLDOUT if is_held_out else had


def _reason_of_task(row: LabelRow, context: Context) -> Reason | None:
    if row.assigned_to is not None and not context.include_assigned:
        return Reason.ASSIGNED
    if row.data_hash in context.skipped:
        return Reason.SKIPPED_BY_HUMAN
    return Reason.TASK_NOT_NEW if row.data_hash in context.not_new else None


def _reason_for_opened(row: LabelRow, context: Context) -> Reason | None:
    content = context.contents.get(row.data_hash)
    if content is None or content.has_human_work:
        return Reason.HUMAN_CONTENT
    if not content.objects:
        return None if context.takes_empty and row.data_hash not in context.landed else Reason.HAS_ROW_EMPTY
    receipts = context.ours.get(row.data_hash, {})
    recipes = {receipts.get(object_hash) for object_hash in content.objects}
    if None not in recipes:
        return Reason.OURS_THIS_RECIPE if recipes == {context.recipe_id} else Reason.OURS_OTHER_RECIPE
    if row.data_type in LABELLED_TYPES and context.named_by_recipe(row, content.objects):
        return Reason.OURS_THIS_RECIPE
    return Reason.HUMAN_CONTENT


def in_queue_order(rows: list[LabelRow]) -> list[LabelRow]:
    """The order in which people will meet them: priority first, then as listed."""
    return sorted(rows, key=lambda row: -row.priority)
