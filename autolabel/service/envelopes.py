"""What an authentic webhook asks for: a hint where there may be work, or nothing that is ours. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autolabel.errors import PermanentCallError
from autolabel.wakes import Hint

WorkAvailable = Literal["agent_stage_work_available_event"]
(WORK_AVAILABLE,) = get_args(WorkAvailable)


@dataclass(frozen=True)
class Ignored:
    """A call that is acknowledged, and asks for no run of ours."""

    why: str


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageWork(_Model):
    """Tasks wait at an Agent stage. Counts and reasons may come with it; the platform is asked what is there."""

    project_hash: UUID
    stage_uuid: UUID


class OtherEvent(_Model):
    """Any other event of Encord's, those of later releases too."""

    event_type: str = Field(json_schema_extra={"not": {"const": WORK_AVAILABLE}})


class TaskReady(_Model):
    """Encord's notification that tasks wait at an Agent stage."""

    event_type: WorkAvailable
    payload: StageWork


class InDataset(_Model):
    dataset_hash: UUID


class InFolder(_Model):
    folder_uuid: UUID


class BucketEvent(_Model):
    """New files, told by a function of yours: the dataset that they are in, else the storage folder."""

    type: str
    data: Annotated[InDataset | InFolder, Field(union_mode="left_to_right")]


def read_encord(body: bytes) -> Hint | Ignored:
    """Raises PermanentCallError (400) naming the field, where a body cannot be used."""
    event_type = _parsed(OtherEvent, body).event_type
    if event_type != WORK_AVAILABLE:
        return Ignored(f"events of type {event_type[:80]!r} ask for no run")
    work = _parsed(TaskReady, body).payload
    return Hint(str(work.project_hash), str(work.stage_uuid))


def read_bucket(body: bytes) -> Hint:
    """Which projects hold the place is not known yet. Raises PermanentCallError (400) naming the field."""
    place = _parsed(BucketEvent, body).data
    return Hint(
        "", f"dataset/{place.dataset_hash}" if isinstance(place, InDataset) else f"folder/{place.folder_uuid}"
    )


_M = TypeVar("_M", bound=BaseModel)


def _parsed(model: type[_M], body: bytes) -> _M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the body"
        raise PermanentCallError(400, f"{field} is not usable: {first['msg']}") from None
