"""Where the harness pushes: one sandbox with many small projects alike, each with a home of its own.

All projects share their data and their ontology, so every push of every project ends with the same labels.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import requests

import history
from autolabel.sandbox import running
from autolabel.sandbox.admin import act_as_person
from autolabel.sandbox.projects import EDITOR
from autolabel.sandbox.store import (
    Dataset,
    DataUnit,
    Folder,
    Item,
    Log,
    Ontology,
    Project,
    Store,
    derived_uuid,
)
from autolabel.sandbox.workflow import new_stages, new_tasks
from evidence import Book, Json, Platform, drawn_in, read_ledger, read_log
from torture import pushes, scratch
from torture.pushes import Job

USER = "prelabel-service@example.com"
GROUP_FRAMES, VIDEO_FRAMES = 3, 10
PICTURES, LAST_PICTURE = (0, 1, 2, 3, 4, 5, 6, 8, 10), 7
SIZE_PX = (64, 48)
BOX = {"box_norm": [0.1, 0.1, 0.3, 0.3]}
HUMAN_WORK: dict[bool, tuple[tuple[int, str], ...]] = {
    True: ((1, "draw"), (3, "classify")),
    False: ((1, "draw"), (3, "classify"), (4, "open"), (6, "draw"), (6, "submit")),
}
"""With an Agent stage first, and without: which picture, and what somebody did there before."""
FREE_AND_SEEN = (0, 2, 5, 8, 10)
"""Pictures that nobody has touched and on which something is seen: with the group and the video, 7 rows to write.

The last row has nothing on it; were it among them, a request of so many rows would carry one less.
"""


@dataclass
class Arena:
    """A running sandbox; `take` gives a project that nobody has pushed to."""

    folder: Path
    info: Json
    config: Path
    free: dict[bool, list[str]]
    taken: int = 0

    @property
    def free_rows(self) -> list[str]:
        """Data hashes of pictures that nobody has touched, whatever the project, and on which something is seen."""
        return [_unit(f"{i}.png") for i in FREE_AND_SEEN]

    def take(self, *, agent: bool = False) -> Match:
        project = self.free[agent].pop()
        self.taken += 1
        home = self.folder / "homes" / str(self.taken)
        job = Job(self.info["domain"], self.info["ssh_key_file"], project, str(home), str(self.config))
        return Match(self, project, home, job)

    def admin(self, method: str, path: str, body: object = None) -> None:
        requests.request(method, f"{self.info['domain']}/admin/{path}", json=body, timeout=30).raise_for_status()


@dataclass(frozen=True)
class Match:
    """One project and one home: the ground of one case."""

    arena: Arena
    project: str
    home: Path
    job: Job

    def platform(self) -> Platform:
        return read_log(map(json.loads, self._lines()))

    def _lines(self) -> Iterator[str]:
        """What the log says of this project: its events, each with the request that follows it."""
        wanted, follows = f'"{self.project}"', False
        with (self.arena.folder / "log.jsonl").open(encoding="utf-8") as log:
            for line in log:
                if not line.endswith("\n"):
                    return  # it is just being written
                if '"kind":"event"' in line:
                    if wanted in line:
                        follows = True
                        yield line
                elif follows:
                    follows = False
                    yield line

    def book(self) -> Book:
        shared = self.home / "ledger.url"
        return read_ledger(shared if shared.exists() else self.home / "ledger.sqlite")

    def share(self, ledger: str) -> Job:
        """The job with a ledger on a server, at this address."""
        self.home.mkdir(parents=True)
        (self.home / "ledger.url").write_text(ledger)
        return replace(self.job, ledger=ledger)

    def person(self, action: str, data_hash: str, **wanted: object) -> None:
        body = {"action": action, "project": self.project, "data_hash": data_hash, **BOX, **wanted}
        self.arena.admin("POST", "human", body)

    def person_somehow(self, row: Json, dice: random.Random) -> None:
        """Somebody draws on a row, or corrects or deletes an object that is there."""
        drawn = [one for _, _, one in drawn_in(row) if "boundingBox" in one]
        pictures = len(row["labels"]) == 1 and "objects" in next(iter(row["labels"].values()))
        if not drawn or not pictures or dice.random() < 0.4:
            self.person("draw", row["data_hash"])
        else:
            name = dice.choice(drawn)["objectHash"]
            self.person(dice.choice(("edit", "delete")), row["data_hash"], object_hash=name)

    def violations(self, *, settled: bool = True) -> list[str]:
        wrong = history.check(self.platform(), [self.book()], settled=settled)
        return wrong + (history.left_over(self.home) if settled else [])

    def verdict(self, expected: Json, *, settled: bool = True) -> list[str]:
        """All violations; `expected`: the labels that an undisturbed push ends with."""
        wrong = self.violations(settled=settled)
        return wrong if wrong or self.labels() == expected else ["the labels are not those of an undisturbed push"]

    def labels(self) -> Json:
        """What stands there in the end: branch -> data unit -> objects, and where each task is."""
        platform = self.platform()
        rows = {(c.after["branch"], c.after["data_hash"]): _drawn(c.after) for c in platform.rows}
        tasks = {
            c.after["data_hash"]: (platform.stages[c.after["stage_uuid"]], c.after["status"]) for c in platform.tasks
        }
        return {"rows": {key: drawn for key, drawn in rows.items() if drawn}, "tasks": tasks}


def _drawn(row: Json) -> list[str]:
    """Without the names that the sandbox's people make up, and without dates."""
    return sorted(
        json.dumps(
            [unit, frame, "" if one["manualAnnotation"] else one["objectHash"], one["confidence"]]
            + [one.get(name) for name in ("featureHash", *history.GEOMETRY)]
        )
        for unit, frame, one in drawn_in(row)
    )


@contextmanager
def arena(folder: Path, projects: int) -> Iterator[Arena]:
    """A sandbox with as many fresh projects of each kind, for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    free = _furnish(folder, projects)
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (weights / name).write_text("{}")
    config = folder / "recipe.yaml"
    config.write_text("detector: {family: grounding_dino, weights: weights}\nvideo_fps: 5\n")
    with running(folder) as info:
        yield Arena(folder, info, config, free)


@contextmanager
def arena_for(test: str, projects: int) -> Iterator[Arena]:
    """In a folder of its own that goes away with it."""
    pushes.prepare()
    with scratch.folder(f"torture {test} ") as folder, arena(Path(folder), projects) as ground:
        yield ground


def _furnish(folder: Path, count: int) -> dict[bool, list[str]]:
    """The log of a sandbox that has had all this done to it."""
    draft = _Draft()
    store = Store(cast(Log, draft), now=lambda: datetime.now(UTC))
    now, made = store.now(), derived_uuid("torture")
    ontology = Ontology(derived_uuid("torture", "ontology"), "Tools", "", EDITOR, now, now)
    dataset = Dataset(derived_uuid("torture", "dataset"), "Data", "", made, now)
    items, frames = _items(made, now)
    units = [DataUnit(_unit(one.name), dataset.key, one.uuid, one.name, now) for one in items]
    store.commit(
        "scenario_created",
        USER,
        ontology,
        dataset,
        Folder(made, "Data", USER, now, dataset.key),
        *frames,
        *items,
        *units,
    )
    (folder / "blobs").mkdir(exist_ok=True)
    for item in (*items, *frames):
        (folder / "blobs" / item.uuid).write_bytes(item.uuid.encode())
    free = {agent: [_add(store, ontology, dataset, units, agent, i) for i in range(count)] for agent in (False, True)}
    (folder / "log.jsonl").write_text("".join(draft.lines), encoding="utf-8")
    return free


class _Draft:
    """A log that is written once, whole."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def since(self, _first: int) -> Iterator[Json]:
        return iter(())

    def append(self, entry: Json) -> None:
        line = {"n": len(self.lines), **entry}
        self.lines.append(json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n")


def _items(folder: str, now: str) -> tuple[list[Item], list[Item]]:
    width, height = SIZE_PX

    def item(name: str, mime_type: str | None = "image/png") -> Item:
        return Item(derived_uuid("torture", name), folder, name, mime_type, width, height, USER, now)

    frames = [item(f"view-{i}.png") for i in range(GROUP_FRAMES)]
    group = replace(item("group", None), width=None, height=None, item_type="imageGroup", frame_count=GROUP_FRAMES)
    group = replace(group, children=[frame.uuid for frame in frames])
    video = replace(
        item("clip.mp4", "video/mp4"), item_type="video", frame_count=VIDEO_FRAMES, fps=10.0, duration_s=1.0
    )
    return [*(item(f"{i}.png") for i in PICTURES), group, video, item(f"{LAST_PICTURE}.png")], frames


def _unit(name: str) -> str:
    return derived_uuid("torture", "unit", name)


def _add(store: Store, ontology: Ontology, dataset: Dataset, units: list[DataUnit], agent: bool, number: int) -> str:
    key = derived_uuid("torture", "project", str(agent), str(number))
    stages = new_stages(key, "Pre-label" if agent else None)
    project = Project(key, f"Torture {number}", "", ontology.key, [dataset.key], stages, USER, store.now())
    store.commit("project_created", USER, project, *new_tasks(store, project, units))
    for picture, action in HUMAN_WORK[agent]:
        wanted = {"project": key, "data_hash": units[picture].data_hash, "action": action, **BOX}
        act_as_person(store, wanted)
    return key
