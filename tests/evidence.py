"""What a test leaves behind, as values: the sandbox's log and the ledgers, read without any code of the product.

A request is the product's own where its user agent says so; whatever else changes the platform counts as people.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

Json = dict[str, Any]
MACHINE = "autolabel/"
SLOW_MS = 1000
LONG_AGO_S = 1e9
READ = {
    "run": "id, project_hash, recipe_id, started_at, summary",
    '"row"': "project_hash, recipe_id, destination, data_hash, state, reason, attempts",
    "receipt": "project_hash, recipe_id, data_hash, branch, objects, at",
    "event ORDER BY seq": "run_id, data_hash, destination, state, at",
}


@dataclass(frozen=True)
class Change:
    """A label row or task before and after one atomic change of the platform."""

    at_s: float
    event: str
    by_machine: bool
    is_slow: bool
    before: Json | None
    after: Json

    @property
    def where(self) -> str:
        return f"{self.after['data_hash']} on {self.after.get('branch', 'its task')} ({self.event})"


@dataclass(frozen=True)
class Platform:
    """The log of one sandbox: what became of label rows and tasks, in order; the kind of each stage by its uuid."""

    rows: Sequence[Change] = ()
    tasks: Sequence[Change] = ()
    stages: Mapping[str, str] = field(default_factory=dict)

    def of_row(self, data_hash: str, branch: str) -> list[Change]:
        return [c for c in self.rows if (c.after["data_hash"], c.after["branch"]) == (data_hash, branch)]


@dataclass(frozen=True)
class Book:
    """One ledger's tables as values; an event also knows its run's recipe."""

    runs: Sequence[Json] = ()
    rows: Sequence[Json] = ()
    receipts: Sequence[Json] = ()
    events: Sequence[Json] = ()

    @property
    def tells_time(self) -> bool:
        """Whether its clock was the platform's: tests may give a ledger a clock of their own."""
        return all(run["started_at"] > LONG_AGO_S for run in self.runs)

    @property
    def began_s(self) -> float:
        return min((run["started_at"] for run in self.runs), default=float("inf"))


def read_log(entries: Iterable[Json]) -> Platform:
    """The lines of a sandbox's log, in order. A change is the product's where the request that follows it is."""
    rows, tasks, stages = list[Change](), list[Change](), dict[str, str]()
    known: dict[str, Json] = {}
    open_events: list[Json] = []
    for entry in entries:
        if entry["kind"] == "event":
            open_events.append(entry)
            continue
        for event in open_events:
            for kind, fields in event["put"]:
                if kind == "Project":
                    stages |= {stage["uuid"]: stage["stageType"] for stage in fields["stages"]}
                elif kind in ("LabelRow", "Task"):
                    key = fields.get("label_hash") or fields["uuid"]
                    change = _change(event, entry, known.get(key), fields)
                    (rows if kind == "LabelRow" else tasks).append(change)
                    known[key] = fields
        open_events.clear()
    return Platform(rows, tasks, stages)


def _change(event: Json, request: Json, before: Json | None, after: Json) -> Change:
    is_human = event["event"].startswith("human_")  # also where the sandbox made people's work before any request
    by_machine = not is_human and request["kind"] == "request" and MACHINE in request.get("agent", "")
    at_s = datetime.fromisoformat(event["at"]).timestamp()
    is_slow = "fault" in request and request["duration_ms"] > SLOW_MS
    return Change(at_s, event["event"], by_machine, is_slow, before, after)


def read_ledger(path: Path, put_ahead_s: float = 0.0) -> Book:
    """All that the checks need of a ledger, or of the one on a server whose address stands in a file `*.url`. One
    that is absent, damaged or of another schema is an error: a check of nothing would be green.

    `put_ahead_s`: where its clock was put ahead during the test; what it says of the future is taken back by so much.
    """
    with closing(_opened(path)) as db:
        runs, rows, receipts, events = (
            [dict(row) for row in db.execute(f"SELECT {columns} FROM {table}")] for table, columns in READ.items()
        )
    recipes = {run["id"]: (run["project_hash"], run["recipe_id"]) for run in runs}
    for event in events:
        event["project_hash"], event["recipe_id"] = recipes.get(event["run_id"], ("", ""))
    for receipt in receipts:
        receipt["objects"] = json.loads(receipt["objects"])
    now_s = time.time()
    for name, of in (("started_at", runs), ("at", receipts), ("at", events)):
        for one in of:
            one[name] -= put_ahead_s if one[name] > now_s else 0.0
    return Book(runs, rows, receipts, events)


def _opened(path: Path) -> Any:
    """A connection whose rows are mappings."""
    if path.suffix == ".url":
        return psycopg.connect(path.read_text(), row_factory=dict_row)  # type: ignore[arg-type]
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    db.row_factory = sqlite3.Row
    return db


def parts(row: Json | None) -> dict[tuple[str, ...], Json]:
    """All that is drawn or answered in a label row, each with its answers, by a key that stays."""
    if row is None:
        return {}
    found: dict[tuple[str, ...], Json] = {}
    for unit, frame, drawn in drawn_in(row):
        name = drawn["objectHash"]
        answers = {part: row[part].get(name) for part in ("object_answers", "object_actions")}
        found["object", unit, frame, name] = drawn | answers
    for name, answer in row["classification_answers"].items():
        found["answer", name] = answer
    return found


def drawn_in(row: Json) -> Iterator[tuple[str, str, Json]]:
    for unit, labels in row["labels"].items():
        frames = {"": labels} if "objects" in labels else labels
        for frame, content in frames.items():
            yield from ((unit, frame, drawn) for drawn in content["objects"])


def hashes(row: Json | None) -> set[str]:
    return {key[-1] for key in parts(row) if key[0] == "object"}
