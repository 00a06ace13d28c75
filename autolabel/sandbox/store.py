"""What the stand-in knows: its entities, and the append-only log they can be rebuilt from.

Nothing changes except through `Store.commit`: one line in DIR/log.jsonl, then `apply` puts the
same values into the tables. One line is one atomic change, and a restart replays the lines.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

Json = dict[str, Any]
NAMESPACE = uuid.UUID("5a6d0b0c-0000-4000-8000-656e636f7264")


def derived_uuid(*parts: str) -> str:
    """A stable id: the same row, task or demo project has the same id however often it is asked."""
    return str(uuid.uuid5(NAMESPACE, "/".join(parts)))


class RefusedError(Exception):
    """The answer is no: `status` is what v2 answers with, `code` what the legacy envelope says."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Entity(Protocol):
    @property
    def key(self) -> str: ...


E = TypeVar("E", bound=Entity)
Changes = Sequence[tuple[Entity | None, Entity]]  # each as it was, as it is


@dataclass(frozen=True)
class User:
    email: str
    public_key: str

    @property
    def key(self) -> str:
        return self.public_key


@dataclass(frozen=True)
class Settings:
    """How the server behaves where the real one is unknown, or where a test must not wait.

    That the real server rounds coordinates is an assumption; 6 decimals is finer than a pixel.
    Seven days is what the SDK's docstring says of signed URLs.
    """

    coordinate_decimals: int = 6
    url_lifetime_s: float = 7 * 24 * 3600.0

    @property
    def key(self) -> str:
        return "settings"


@dataclass(frozen=True)
class Ontology:
    ontology_hash: str
    title: str
    description: str
    editor: Json
    created_at: str
    last_edited_at: str

    @property
    def key(self) -> str:
        return self.ontology_hash


@dataclass(frozen=True)
class Dataset:
    dataset_hash: str
    title: str
    description: str
    folder_uuid: str
    created_at: str

    @property
    def key(self) -> str:
        return self.dataset_hash


@dataclass(frozen=True)
class Folder:
    """A place for stored files. What is put into the folder of a dataset is put into the dataset."""

    uuid: str
    name: str
    owner: str
    created_at: str
    dataset_hash: str | None = None

    @property
    def key(self) -> str:
        return self.uuid


@dataclass(frozen=True)
class Item:
    """A stored file, or a group of files: its frames are the items named in `children`.

    With a `scene` a file's bytes are drawn on demand; without, they lie in blobs/. An image group
    has no file and no size of its own; an image sequence also has a video of its frames.
    """

    uuid: str
    folder_uuid: str
    name: str
    mime_type: str | None
    width: int | None
    height: int | None
    owner: str
    created_at: str
    scene: Json | None = None
    item_type: str = "image"  # as v2 spells it: image, imageGroup, imageSequence, video
    frame_count: int = 1
    fps: float | None = None
    duration_s: float | None = None
    children: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.uuid

    @property
    def data_type(self) -> str:
        """How label rows spell it. An image sequence is a group there, as in Encord's own tests."""
        return {"image": "image", "video": "video"}.get(self.item_type, "img_group")


@dataclass(frozen=True)
class DataUnit:
    data_hash: str
    dataset_hash: str
    item_uuid: str
    title: str
    created_at: str

    @property
    def key(self) -> str:
        return self.data_hash


@dataclass(frozen=True)
class UploadJob:
    process_hash: str
    result: Json

    @property
    def key(self) -> str:
        return self.process_hash


@dataclass(frozen=True)
class Project:
    project_hash: str
    title: str
    description: str
    ontology_hash: str
    dataset_hashes: list[str]
    stages: list[Json]
    creator: str
    created_at: str

    @property
    def key(self) -> str:
        return self.project_hash

    def stage(self, stage_uuid: str) -> Json:
        for stage in self.stages:
            if stage["uuid"] == stage_uuid:
                return stage
        raise RefusedError(404, "RESOURCE_NOT_FOUND_ERROR", f"no stage {stage_uuid} in this workflow")


@dataclass(frozen=True)
class Task:
    uuid: str
    project_hash: str
    data_hash: str
    ordinal: int
    stage_uuid: str
    created_at: str
    updated_at: str
    status: str = "NEW"
    assignee: str | None = None
    last_actioned_by: str | None = None
    priority: float = 0.5

    @property
    def key(self) -> str:
        return self.uuid


@dataclass(frozen=True)
class TimeSpent:
    """What one person spent at one stage of a task on one day, as 2026-01-31 in UTC."""

    task_uuid: str
    stage_uuid: str
    email: str
    day: str
    seconds: int = 0

    @property
    def key(self) -> str:
        return f"{self.task_uuid}/{self.stage_uuid}/{self.email}/{self.day}"


@dataclass(frozen=True)
class LabelRow:
    label_hash: str
    project_hash: str
    data_hash: str
    branch: str
    created_at: str
    last_edited_at: str
    revision: int = 0
    labels: dict[str, Json] = field(default_factory=dict)  # data unit hash -> its "labels"
    object_answers: Json = field(default_factory=dict)
    classification_answers: Json = field(default_factory=dict)
    object_actions: Json = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.label_hash


@dataclass(frozen=True)
class Webhook:
    """Where a stage's webhook goes. Its secret is not here, so that the log may be shown.

    `every_s`, `batch_size`, `max_wait_s` are of an Agent stage: how often its queue is looked at, what is told of it.
    """

    id: str
    url: str
    project_hash: str
    kind: str  # agent_stage, annotate or complete
    stage_uuid: str
    every_s: float = 300.0
    timeout_s: float = 180.0
    batch_size: int = 1
    max_wait_s: float | None = None
    is_removed: bool = False

    def __post_init__(self) -> None:
        if not (self.every_s > 0 and self.timeout_s > 0 and self.batch_size > 0):
            raise ValueError("every_s, timeout_s and batch_size are above 0")

    @property
    def key(self) -> str:
        return self.id


KINDS: tuple[type[Any], ...] = (
    User, Settings, Ontology, Dataset, Folder, Item, DataUnit, UploadJob, Project, Task, TimeSpent, LabelRow,
    Webhook,
)  # fmt: skip
KIND_BY_NAME = {kind.__name__: kind for kind in KINDS}
Tables = dict[type[Any], dict[str, Any]]


def apply(tables: Tables, event: Json) -> None:
    """Put the entities of one event into the tables. No clock, no disk: replay is repetition."""
    for name, fields in event["put"]:
        entity = KIND_BY_NAME[name](**fields)
        tables[type(entity)][entity.key] = entity


class Log:
    """DIR/log.jsonl: entry n is line n. Flushed line by line, so that kill -9 loses no answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = self._drop_torn_line()
        self._file = path.open("a", encoding="utf-8")

    def append(self, entry: Json) -> None:
        line = json.dumps({"n": self.count, **entry}, separators=(",", ":"), sort_keys=True)
        self._file.write(line + "\n")
        self._file.flush()
        self.count += 1

    def since(self, first: int) -> Iterator[Json]:
        with self._path.open(encoding="utf-8") as lines:
            for line in islice(lines, first, None):
                yield json.loads(line)

    def _drop_torn_line(self) -> int:
        self._path.touch()
        with self._path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        return content.count(b"\n")


class Store:
    """The tables, and the one way to change them. Single-threaded: the event loop's thread."""

    def __init__(self, log: Log, now: Callable[[], datetime]) -> None:
        self.log = log
        self._now = now
        self._tables: Tables = {kind: {} for kind in KINDS}
        self.effects: list[str] = []  # of every commit of this process, in order
        self.on_commit: Callable[[Changes], None] = lambda changes: None
        for entry in log.since(0):
            if entry["kind"] == "event":
                apply(self._tables, entry)

    def table(self, kind: type[E]) -> Mapping[str, E]:
        return cast(Mapping[str, E], self._tables[kind])

    def get(self, kind: type[E], key: str) -> E:
        entity = self.table(kind).get(key)
        if entity is None:
            raise RefusedError(404, "RESOURCE_NOT_FOUND_ERROR", f"no {kind.__name__} {key}")
        return entity

    def commit(self, effect: str, user: str, *entities: Entity) -> None:
        """Log the change, then make it: all of `entities` or, after a crash, none.

        Nothing to change is no effect: the log tells writes from requests that wrote nothing.
        """
        if not entities:
            return
        put = [[type(entity).__name__, asdict(cast(Any, entity))] for entity in entities]
        event = {"kind": "event", "event": effect, "user": user, "at": self.now(), "put": put}
        before = [self._tables[type(entity)].get(entity.key) for entity in entities]
        self.log.append(event)
        apply(self._tables, event)
        self.effects.append(effect)
        self.on_commit(list(zip(before, entities, strict=True)))

    def now(self) -> str:
        return self._now().astimezone(UTC).isoformat().replace("+00:00", "Z")

    def settings(self) -> Settings:
        return self.table(Settings).get("settings", Settings())

    def units(self, project: Project) -> list[DataUnit]:
        """The data units of a project, in the order in which they were added."""
        wanted = set(project.dataset_hashes)
        return [u for u in self.table(DataUnit).values() if u.dataset_hash in wanted]

    def frames(self, unit: DataUnit) -> list[tuple[str, Item]]:
        """The hash and file of each frame of an image group, else of the one file there is.

        A frame's hash is of this data unit alone: a group in two datasets has two sets of them.
        """
        item = self.get(Item, unit.item_uuid)
        if not item.children:
            return [(unit.data_hash, item)]
        hashes = (derived_uuid(unit.data_hash, "frame", str(i)) for i in range(len(item.children)))
        return [(h, self.get(Item, child)) for h, child in zip(hashes, item.children, strict=True)]

    def task(self, project_hash: str, data_hash: str) -> Task:
        return self.get(Task, derived_uuid(project_hash, data_hash, "task"))


@dataclass(frozen=True)
class Call:
    """One authenticated request, whichever dialect it came in."""

    store: Store
    user: str
    ids: Mapping[str, str]  # names from the path; the legacy dialect has "resource"
    query: Mapping[str, list[str]]
    uid: list[str]  # legacy only
    payload: Any
    signed_url: Callable[[str, str], str]  # (method, path) -> URL that expires
    blobs: Path  # the folder of uploaded files, named by item

    def project(self) -> Project:
        return self.store.get(Project, self.ids["project"])


Handler = Callable[[Call], Any]
LegacyRoutes = dict[tuple[str, str], Handler]  # (query_type, query_method)
V2Routes = list[tuple[str, str, Handler]]  # method, path below /v2/public
