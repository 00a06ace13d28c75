"""Pushes over real HTTP under planned faults of the wire, with a model that answers at once.

Bodies of tests: each takes a seed and an amount and returns what went wrong, one line a violation, so that the suite
runs a few and a torture run many.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

import history
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.identity import object_hash
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.core.rows import OntologyClass
from autolabel.database import Database
from autolabel.errors import AutolabelError
from autolabel.ledger import Ledger
from autolabel.plan import Options, make_plan
from autolabel.protocols import Clip, ClipAnswer, Pending
from autolabel.recipe import ModelChoice, Recipe, RecipeConfig
from autolabel.remote.client import connect, read_key_file
from autolabel.remote.sink import EncordSink
from autolabel.remote.source import EncordSource
from autolabel.remote.wire import Line
from autolabel.sandbox import running
from autolabel.states import Job, Record, State
from autolabel.sync import Ports, Run
from platform_fakes import FakeGallery

ROWS_A_RUN = 3
TURNS_A_BENCH = 40
DEADLINE_S = 0.5
"""Of requests, where one is late; elsewhere nothing depends on how quick this machine is."""
CALM_DEADLINE_S = 30.0
OBJECTS = 2
HASTE = 50
"""So much faster the clock of downloads goes where one is late: their patience is a minute."""
LATE = ("slow", "drip")

CALLS: dict[str, dict[str, str]] = {
    "project": {"path_contains": "/projects/"},
    "list": {"query_type": "labelrowmetadata"},
    "tasks": {"path_contains": "/workflow"},
    "sign": {"path_contains": "get-bulk"},
    "download": {"path_contains": "/blobs/"},
    "create": {"query_type": "labelrow", "query_method": "PUT"},
    "save": {"query_type": "labelrow", "query_method": "POST"},
    "read": {"query_type": "labelrow", "query_method": "GET"},
    "copy": {"path_contains": "copy-branch"},
}
PASSING: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429},
    "429 in seconds": {"kind": "status", "status": 429, "retry_after_s": 0},
    "429 by date": {"kind": "status", "status": 429, "retry_after_s": formatdate(0, usegmt=True)},
    "429 garbage": {"kind": "status", "status": 429, "retry_after_s": "in a while"},
    **{str(code): {"kind": "status", "status": code} for code in (500, 502, 503, 504)},
    "413": {"kind": "status", "status": 413},
    "reset before": {"kind": "reset_before"},
    "reset after": {"kind": "reset_after"},
    "late": {"kind": "slow", "delay_s": 2 * DEADLINE_S},
    "drip": {"kind": "drip", "delay_s": DEADLINE_S / 20},
    "cut": {"kind": "truncate"},
    "no JSON": {"kind": "not_json"},
}
ENDING: dict[str, dict[str, Any]] = {
    "429 absurd": {"kind": "status", "status": 429, "retry_after_s": 10**9},
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
}


class BoxesEverywhere:
    """An `Inference` that sees OBJECTS boxes on every frame."""

    def __init__(self, feature_hash: str) -> None:
        self._feature_hash = feature_hash

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        return [[self._frame(clip, index) for index in clip.frame_indices] for clip in clips]

    def _frame(self, clip: Clip, index: int) -> FrameLabels:
        boxes = tuple(
            Detection(self._feature_hash, "box", 0.9 - 0.1 * i, (5.0 + i, 5.0, 50.0, 40.0)) for i in range(OBJECTS)
        )
        return FrameLabels(index, clip.width_px, clip.height_px, boxes, {}, "digest")

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return np.arange(clip.video_frames or 0) / 25

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Bench:
    """A sandbox with its demo project, and one ledger for all runs."""

    domain: str
    key: str
    project_hash: str
    recipe: Recipe
    ledger: Ledger
    spool: Path

    def push(
        self, limit: int | None, *, in_haste: bool = False, guard: Callable[[], None] = lambda: None
    ) -> AutolabelError | None:
        """One run in this process; how it was stopped. Any other exception is a bug and is not caught."""
        deadline_s, haste = (DEADLINE_S, HASTE) if in_haste else (CALM_DEADLINE_S, 1)
        try:
            line = Line(deadline_s=deadline_s)
            line.guard = guard
            connection = connect(self.project_hash, self.domain, self.key, line)
            source = EncordSource(connection, 10**8, clock=lambda: haste * time.monotonic())
            sink = EncordSink(connection, self.recipe.branch, max_row_bytes=10**7)
            inference = BoxesEverywhere(self.recipe.plan.classes[0].feature_hash)
            ports = Ports(source, sink, self.ledger, inference, self.spool)
            options = Options(limit=limit, write_rows=ROWS_A_RUN)
            plan = make_plan(source, self.ledger, source.project(), self.recipe, options)
            Run(plan, self.recipe, ports, f"run-{time.monotonic_ns()}", FakeGallery()).execute(
                options, lambda _: None
            )
        except AutolabelError as error:
            return error
        return None

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.domain}/admin/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def writes(self) -> list[str]:
        """The effects of requests, in order."""
        return [e["effect"] for e in self.admin("GET", "log") if e["kind"] == "request" and e["effect"]]

    def records(self) -> dict[str, Record]:
        return dict(self.ledger.records(Job(self.project_hash, self.recipe.id, "main")))

    def settled(self) -> int:
        return sum(record.state == State.DONE for record in self.records().values())

    def main_rows(self) -> dict[str, Any]:
        stored: dict[str, dict[str, Any]] = self.admin("GET", f"rows?project={self.project_hash}")
        return stored.get("main", {})

    def violations(self, people: dict[str, Any]) -> list[str]:
        """People's rows as they were; what is done stands on main, each object once and no other; nothing aside."""
        main = self.main_rows()
        found = [f"row {key} of people changed" for key, row in people.items() if main.get(key) != row]
        records = self.records()
        for key, record in records.items():
            if record.state in (State.DONE, State.WRITTEN):
                found += [f"row {key} is {record.state} and holds {held}" for held in [self._held(main, key)] if held]
            elif record.state == State.SET_ASIDE:
                found.append(f"row {key} is set aside: {record.reason}")
        strangers = main.keys() - people.keys() - records.keys()
        return found + [f"row {key} came from nowhere" for key in strangers]

    def _held(self, main: dict[str, Any], key: str) -> list[str]:
        """The row's objects, where they are not just ours."""
        cls = self.recipe.plan.classes[0].feature_hash
        ours = [object_hash(self.recipe.id, key, cls, slot) for slot in range(OBJECTS)]
        units = main.get(key, {"labels": {}})["labels"].values()
        held = [item["objectHash"] for unit in units for item in unit["objects"]]
        return [] if sorted(held) == sorted(ours) else held or ["nothing"]


def make_recipe(cls: OntologyClass) -> Recipe:
    plan = PromptPlan((ClassPlan(cls.feature_hash, cls.name, "bounding_box", (cls.name,), 0.3, 9),))
    return Recipe(RecipeConfig(detector=ModelChoice(family="scripted", weights="none")), plan, "digest", "")


@contextmanager
def bench(folder: Path, rows: int) -> Iterator[Bench]:
    """A fresh sandbox with so many rows that are free, besides those of people."""
    with running(folder / "sandbox", scenario="demo", frames=rows + 10) as served:
        key = read_key_file(Path(served["ssh_key_file"]))
        (project_hash,) = served["projects"].values()
        found = EncordSource(connect(project_hash, served["domain"], key), 1).project()
        cls = next(item for item in found.classes if item.shape == "bounding_box")
        spool = folder / "spool"
        spool.mkdir()
        with closing(Ledger(Database(folder / "ledger.sqlite"), time.time)) as ledger:
            yield Bench(served["domain"], key, project_hash, make_recipe(cls), ledger, spool)


def http_faults(folder: Path, seed: int, amount: int) -> list[str]:
    """T4: `amount` runs, each with a call of its own at fault once or twice; after each, a run without any."""
    chance = random.Random(seed)
    pairs = [(call, fault) for call in CALLS for fault in (*PASSING, *ENDING)]
    pairs.remove(("sign", "413"))  # asked about one row, it is a refusal like any other: the row is set aside
    chance.shuffle(pairs)
    violations: list[str] = []
    for first in range(0, amount, TURNS_A_BENCH):
        turns = range(first, min(first + TURNS_A_BENCH, amount))
        home = folder / f"from-{first}"
        with bench(home, len(turns) * ROWS_A_RUN) as made:
            people = made.main_rows()
            for turn in turns:
                call, name = pairs[turn % len(pairs)]
                fault = (PASSING | ENDING)[name] | {"match": CALLS[call], "times": chance.choice((1, 1, 2))}
                found = under_fault(made, people, fault, (turn - first + 1) * ROWS_A_RUN)
                violations += [f"seed {seed}, turn {turn}, {name} on {call}: {one}" for one in found]
        violations += [f"seed {seed}, turns {turns}: {one}" for one in history.check_folder(home)]
    return violations


def under_fault(made: Bench, people: dict[str, Any], fault: dict[str, Any], goal: int) -> list[str]:
    """A run that meets the fault, and one that brings the rows done to `goal`; what is wrong then."""
    made.admin("POST", "faults", [fault])
    made.push(limit=ROWS_A_RUN, in_haste=fault["kind"] in LATE)
    (planned,) = made.admin("GET", "faults")
    made.admin("DELETE", "faults")
    again = made.push(limit=goal - made.settled())
    found = made.violations(people) + ([f"the run after it stopped: {again}"] if again else [])
    found += [] if planned["met"] else ["no request met the fault"]
    return found + ([] if made.settled() == goal else [f"{made.settled()} rows of {goal} are done"])


EXPIRIES: dict[str, dict[str, Any]] = {
    "list": {"kind": "drip", "delay_s": 0.002, "match": CALLS["sign"]},  # longer than the URL in it lives
    "download": {"kind": "expire_url", "match": CALLS["download"]},
    "download, as another store says it": {"kind": "status", "status": 400, "match": CALLS["download"]},
    "mid-stream": {"kind": "truncate", "match": CALLS["download"]},
}


def expired_urls(folder: Path, seed: int, amount: int) -> list[str]:
    """T9: a run over `amount` rows whose URLs run out `amount` times, between others that do not, and a calm one.

    A row whose file was not to be had 5 times in succession waits for the second.
    """
    chance = random.Random(seed)
    names = [chance.choice(list(EXPIRIES)) for _ in range(amount)]
    faults = [EXPIRIES[name] | {"times": 1, "after": names[:i].count(name)} for i, name in enumerate(names)]
    with bench(folder, amount) as made:
        people = made.main_rows()
        made.admin("POST", "settings", {"url_lifetime_s": 0.5})
        made.admin("POST", "faults", faults)
        stopped = made.push(limit=amount)
        met = sum(fault["met"] for fault in made.admin("GET", "faults"))
        made.admin("DELETE", "faults")
        stopped = stopped or made.push(limit=amount - made.settled())
        found = made.violations(people) + ([f"the run stopped: {stopped}"] if stopped else [])
        found += [] if made.settled() == amount else [f"{made.settled()} rows of {amount} are done"]
        found += [] if met >= amount * 0.9 else [f"only {met} URLs ran out"]
        found += [f"{left.name} was left in the spool" for left in made.spool.iterdir()]
    return [f"seed {seed}: {one}" for one in found + history.check_folder(folder)]
