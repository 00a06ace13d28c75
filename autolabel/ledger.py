"""Our own durable record of every label row: its state, detections and receipts. SQLite, one transaction a step.

States and the only ways between them:

    found -> leased -> inferred -> intent -> written -> done
    found, leased, inferred, intent, written -> left_alone   (a person came first; looked at again on the next run)
    leased, inferred, intent, written        -> set_aside    (tried, refused, with its reason)
    leased                                   -> found        (the run that held it ended)
    inferred                                 -> done         (no detections: nothing to write)
    written                                  -> intent       (the run died before the task moved on: written again)
    left_alone, set_aside                    -> found        (it has become free; somebody asked for another try)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from autolabel.core.detections import FrameLabels, pack, unpack
from autolabel.errors import PermanentLedgerError
from autolabel.protocols import Receipt

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30


class State(StrEnum):
    FOUND = "found"
    LEASED = "leased"
    INFERRED = "inferred"
    INTENT = "intent"
    WRITTEN = "written"
    DONE = "done"
    LEFT_ALONE = "left_alone"
    SET_ASIDE = "set_aside"


_ENDS = frozenset({State.LEFT_ALONE, State.SET_ASIDE})
ALLOWED: Mapping[State, frozenset[State]] = {
    State.FOUND: frozenset({State.LEASED, State.LEFT_ALONE}),
    State.LEASED: _ENDS | {State.FOUND, State.INFERRED},
    State.INFERRED: _ENDS | {State.INTENT, State.DONE},
    State.INTENT: _ENDS | {State.INTENT, State.WRITTEN},
    State.WRITTEN: _ENDS | {State.INTENT, State.DONE},
    State.DONE: frozenset(),
    State.LEFT_ALONE: frozenset({State.FOUND}),
    State.SET_ASIDE: frozenset({State.FOUND}),
}

_meta = sa.MetaData()
_run = sa.Table(
    "run",
    _meta,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("project_hash", sa.Text, nullable=False),
    sa.Column("project_title", sa.Text, nullable=False),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("summary", sa.Text),
)
_row = sa.Table(
    "row",
    _meta,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("intent_digest", sa.Text),
)
_detections = sa.Table(
    "detections",
    _meta,
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
_receipt = sa.Table(
    "receipt",
    _meta,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("label_hash", sa.Text, nullable=False),
    sa.Column("object_hashes", sa.Text, nullable=False),
    sa.Column("feature_hashes", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
_event = sa.Table(
    "event",
    _meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("data_hash", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
)


@dataclass(frozen=True)
class Job:
    """One recipe on one project towards one destination: what a row's state belongs to."""

    project_hash: str
    recipe_id: str
    destination: str


@dataclass(frozen=True)
class Record:
    state: State
    reason: str | None
    attempts: int
    run_id: str


@dataclass(frozen=True)
class Move:
    """A step of one row: where to, and for `left_alone` and `set_aside` why."""

    data_hash: str
    state: State
    reason: str | None = None
    message: str | None = None
    intent_digest: str | None = None
    receipt: Receipt | None = None


class Ledger:
    """All access to the file. Every method is one transaction, durable when it returns; safe between threads.

    Raises PermanentLedgerError, before anything is written remotely, for a file that cannot be trusted.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        try:
            with self._engine.begin() as db:
                _check(db, path)
                _meta.create_all(db)
                db.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sa.exc.DBAPIError as error:
            raise PermanentLedgerError(
                f"the ledger {path} cannot be used ({error.orig}); nothing was written to the platform. "
                "Free the disk or restore the file, or point AUTOLABEL_HOME at another folder"
            ) from error

    def close(self) -> None:
        self._engine.dispose()

    # Runs

    def start_run(self, run_id: str, job: Job, title: str, recipe: Mapping[str, Any]) -> None:
        """Open a run. Rows still leased belong to a run that died: callers hold the project's lock."""
        with self._engine.begin() as db:
            db.execute(
                _run.insert().values(
                    id=run_id,
                    project_hash=job.project_hash,
                    project_title=title,
                    recipe_id=job.recipe_id,
                    recipe=json.dumps(recipe),
                    destination=job.destination,
                    started_at=self._clock(),
                )
            )
            stale = db.scalars(sa.select(_row.c.data_hash).where(_of(job), _row.c.state == State.LEASED)).all()
            self._apply(db, job, run_id, [Move(data_hash, State.FOUND) for data_hash in stale])

    def finish_run(self, run_id: str, summary: Mapping[str, Any]) -> None:
        with self._engine.begin() as db:
            values = {"finished_at": self._clock(), "summary": json.dumps(summary)}
            db.execute(_run.update().where(_run.c.id == run_id).values(values))

    def written_in(self, run_id: str, branch: str) -> frozenset[str]:
        """Data hashes of rows for which a run got a receipt on a branch."""
        where = sa.and_(_receipt.c.run_id == run_id, _receipt.c.branch == branch)
        with self._engine.begin() as db:
            return frozenset(db.scalars(sa.select(_receipt.c.data_hash).where(where)))

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A run's record, or None."""
        with self._engine.begin() as db:
            found = db.execute(sa.select(_run).where(_run.c.id == run_id)).mappings().first()
        return dict(found) if found else None

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        with self._engine.begin() as db:
            rows = db.execute(sa.select(_run).order_by(_run.c.started_at.desc()).limit(limit)).mappings().all()
        return [dict(row) for row in rows]

    # Rows

    def records(self, job: Job) -> dict[str, Record]:
        """All rows of a job, by data hash."""
        query = sa.select(_row.c.data_hash, _row.c.state, _row.c.reason, _row.c.attempts, _row.c.run_id).where(
            _of(job)
        )
        with self._engine.begin() as db:
            return {key: Record(State(state), *rest) for key, state, *rest in db.execute(query)}

    def find(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        """Take rows up as `found`: new ones, and those that ended as left alone or set aside."""
        known = self.records(job)
        fresh = [key for key in data_hashes if key not in known]
        ended = [key for key in data_hashes if key in known and known[key].state in _ENDS]
        with self._engine.begin() as db:
            for key in fresh:
                values = {**_key(job), "data_hash": key, "state": State.FOUND, "attempts": 0, "run_id": run_id}
                db.execute(_row.insert().values(values))
                self._log(db, job, run_id, Move(key, State.FOUND))
            self._apply(db, job, run_id, [Move(key, State.FOUND) for key in ended])

    def move(self, job: Job, run_id: str, moves: Sequence[Move]) -> None:
        """Take rows one step on, all or none. Raises PermanentLedgerError for a step the table does not allow."""
        with self._engine.begin() as db:
            self._apply(db, job, run_id, moves)

    def start_attempt(self, job: Job, data_hashes: Sequence[str]) -> None:
        """Counted when rows start in the worker, before it can die on them; cleared by `put_detections`."""
        with self._engine.begin() as db:
            where = sa.and_(_of(job), _row.c.data_hash.in_(data_hashes))
            db.execute(_row.update().where(where).values(attempts=_row.c.attempts + 1))

    def put_detections(self, job: Job, run_id: str, found: Mapping[str, Sequence[FrameLabels]]) -> None:
        """Keep what inference said of whole rows, and with it move them to `inferred`."""
        with self._engine.begin() as db:
            for data_hash, frames in found.items():
                values = {"recipe_id": job.recipe_id, "data_hash": data_hash, "chunk": 0, "body": pack(list(frames))}
                db.execute(
                    insert(_detections).values(values).on_conflict_do_update(None, set_={"body": values["body"]})
                )
                db.execute(_row.update().where(_of(job), _row.c.data_hash == data_hash).values(attempts=0))
            self._apply(db, job, run_id, [Move(data_hash, State.INFERRED) for data_hash in found])

    def stored(self, recipe_id: str) -> frozenset[str]:
        """Data hashes of rows whose detections are kept: they cost no inference any more."""
        with self._engine.begin() as db:
            where = _detections.c.recipe_id == recipe_id
            return frozenset(db.scalars(sa.select(_detections.c.data_hash).where(where)))

    def detections(self, recipe_id: str, data_hash: str) -> list[FrameLabels]:
        """What inference said of a row, in frame order; nothing when it has not been asked."""
        where = sa.and_(_detections.c.recipe_id == recipe_id, _detections.c.data_hash == data_hash)
        with self._engine.begin() as db:
            chunks = db.scalars(sa.select(_detections.c.body).where(where).order_by(_detections.c.chunk)).all()
        return [frame for chunk in chunks for frame in unpack(chunk)]

    def our_hashes(self, project_hash: str) -> dict[str, frozenset[str]]:
        """Data hash -> object hashes that receipts of any recipe name there."""
        query = sa.select(_receipt.c.data_hash, _receipt.c.object_hashes).where(
            _receipt.c.project_hash == project_hash
        )
        found: dict[str, frozenset[str]] = {}
        with self._engine.begin() as db:
            for data_hash, hashes in db.execute(query):
                found[data_hash] = found.get(data_hash, frozenset()) | frozenset(json.loads(hashes))
        return found

    def counts(self) -> list[dict[str, Any]]:
        """Rows by project, recipe, destination, state and reason."""
        columns = (_row.c.project_hash, _row.c.recipe_id, _row.c.destination, _row.c.state, _row.c.reason)
        query = sa.select(*columns, sa.func.count().label("rows")).group_by(*columns).order_by(*columns)
        with self._engine.begin() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def _apply(self, db: sa.Connection, job: Job, run_id: str, moves: Sequence[Move]) -> None:
        for move in moves:
            where = sa.and_(_of(job), _row.c.data_hash == move.data_hash)
            now = db.scalar(sa.select(_row.c.state).where(where))
            if now is None or move.state not in ALLOWED[State(now)]:
                raise PermanentLedgerError(
                    f"row {move.data_hash} cannot go from {now} to {move.state}; this is a bug"
                )
            values = {"state": move.state, "reason": move.reason, "message": move.message, "run_id": run_id}
            if move.intent_digest:
                values["intent_digest"] = move.intent_digest
            db.execute(_row.update().where(where).values(values))
            if move.receipt:
                self._keep_receipt(db, job, run_id, move.data_hash, move.receipt)
            self._log(db, job, run_id, move)

    def _keep_receipt(self, db: sa.Connection, job: Job, run_id: str, data_hash: str, receipt: Receipt) -> None:
        key = {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "data_hash": data_hash}
        values = {
            "branch": receipt.branch,
            "label_hash": receipt.label_hash,
            "object_hashes": json.dumps(receipt.object_hashes),
            "feature_hashes": json.dumps(receipt.feature_hashes),
            "digest": receipt.digest,
            "run_id": run_id,
            "at": self._clock(),
        }
        db.execute(insert(_receipt).values(**key, **values).on_conflict_do_update(None, set_=values))

    def _log(self, db: sa.Connection, job: Job, run_id: str, move: Move) -> None:
        values = {"at": self._clock(), "run_id": run_id, "data_hash": move.data_hash, "destination": job.destination}
        db.execute(_event.insert().values(**values, state=move.state, reason=move.reason))


def _key(job: Job) -> dict[str, str]:
    return {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "destination": job.destination}


def _of(job: Job) -> sa.ColumnElement[bool]:
    return sa.and_(*(_row.c[name] == value for name, value in _key(job).items()))


def _on_connect(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # the driver must not begin transactions behind SQLAlchemy's back
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")  # NORMAL may roll an acknowledged commit back after a power cut


def _check(db: sa.Connection, path: Path) -> None:
    version = db.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > SCHEMA_VERSION:
        raise PermanentLedgerError(
            f"the ledger {path} was written by a newer release (schema {version}, this one reads {SCHEMA_VERSION}); "
            "nothing was written. Install the newer release"
        )
    verdict = db.exec_driver_sql("PRAGMA quick_check").scalar_one()
    if verdict != "ok":
        raise PermanentLedgerError(f"the ledger {path} is damaged ({verdict}); nothing was written. Restore a copy")
