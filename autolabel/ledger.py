"""Our own durable record of every label row: its state, detections and receipts. SQLite, one transaction a step.

States and the only ways between them:

    found -> leased -> inferred -> intent -> written -> done
    found, leased, inferred, intent, written -> left_alone   (a person came first; looked at again on the next run)
    leased, inferred, intent, written        -> set_aside    (tried, refused, with its reason)
    leased                                   -> found        (the run that held it ended)
    inferred                                 -> done         (no detections: nothing to write)
    done                                     -> left_alone   (undone)
    written                                  -> intent       (the run died before the task moved on: written again)
    left_alone, set_aside                    -> found        (it has become free; somebody asked for another try)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from autolabel import schema
from autolabel.core.detections import FrameLabels, pack, unpack
from autolabel.core.rows import Reason
from autolabel.errors import PermanentLedgerError
from autolabel.protocols import Receipt
from autolabel.schema import DETECTIONS, EVENT, META, RECEIPT, ROW, RUN, UNDO

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
    State.DONE: frozenset({State.LEFT_ALONE}),
    State.LEFT_ALONE: frozenset({State.FOUND}),
    State.SET_ASIDE: frozenset({State.FOUND}),
}


_NO_TROUBLE = {"attempts": 0, "failed_downloads": 0}


@dataclass(frozen=True)
class Job:
    """One recipe on one project towards one destination: what a row's state belongs to."""

    project_hash: str
    recipe_id: str
    destination: str


@dataclass(frozen=True)
class Record:
    """`intent_digest`: of the last write that was announced for the row."""

    state: State
    reason: str | None
    attempts: int
    run_id: str
    intent_digest: str | None = None

    @property
    def is_set_aside(self) -> bool:
        return self.state == State.SET_ASIDE


@dataclass(frozen=True)
class Move:
    """A step of one row: where to, and for `left_alone` and `set_aside` why."""

    data_hash: str
    state: State
    reason: str | None = None
    message: str | None = None
    intent_digest: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Chunk:
    """What inference said of some frames of a row (at least one, in order); `ends_row` with the last of them."""

    data_hash: str
    frames: Sequence[FrameLabels]
    ends_row: bool


class Ledger:
    """All access to the file. Every method is one transaction, durable when it returns; safe between threads.

    Raises PermanentLedgerError, before anything is written remotely, for a file that cannot be trusted.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(self._engine, "connect", schema.on_connect)
        sa.event.listen(self._engine, "begin", schema.on_begin)
        try:
            self._open()
        except PermanentLedgerError:
            self.close()
            raise

    def _open(self) -> None:
        with self._read() as db:
            version = schema.checked_version(db, self._path)
        if version == schema.VERSION:
            return
        with self._write() as db:
            if version == 0:
                META.create_all(db)
            for step in range(version or schema.VERSION, schema.VERSION):
                db.exec_driver_sql(schema.MIGRATIONS[step])
            db.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        """A consistent look that no writer waits for."""
        with self._trusted(), self._engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """One transaction, alone from its beginning, on the disk when the block ends."""
        with self._trusted(), self._engine.connect().execution_options(writes=True) as db, db.begin():
            yield db

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise PermanentLedgerError(
                f"the ledger {self._path} cannot be used ({error.orig}), so nothing more is written to the platform; "
                "free the disk or restore the file, then run again"
            ) from error

    # Runs

    def start_run(self, run_id: str, job: Job, title: str, recipe: Mapping[str, Any]) -> None:
        """Open a run. Rows still leased belong to a run that died: callers hold the project's lock."""
        with self._write() as db:
            db.execute(
                RUN.insert().values(
                    id=run_id,
                    project_hash=job.project_hash,
                    project_title=title,
                    recipe_id=job.recipe_id,
                    recipe=json.dumps(recipe),
                    destination=job.destination,
                    started_at=self._clock(),
                )
            )
            stale = db.scalars(sa.select(ROW.c.data_hash).where(_of(job), ROW.c.state == State.LEASED)).all()
            self._apply(db, job, run_id, [Move(data_hash, State.FOUND) for data_hash in stale])

    def finish_run(self, run_id: str, summary: Mapping[str, Any]) -> None:
        with self._write() as db:
            values = {"finished_at": self._clock(), "summary": json.dumps(summary)}
            db.execute(RUN.update().where(RUN.c.id == run_id).values(values))

    def written_to(self, job: Job, branch: str) -> frozenset[str]:
        """Data hashes of rows for which there is a receipt of this recipe on a branch."""
        where = sa.and_(
            RECEIPT.c.project_hash == job.project_hash,
            RECEIPT.c.recipe_id == job.recipe_id,
            RECEIPT.c.branch == branch,
        )
        with self._read() as db:
            return frozenset(db.scalars(sa.select(RECEIPT.c.data_hash).where(where)))

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A run's record, or None."""
        with self._read() as db:
            found = db.execute(sa.select(RUN).where(RUN.c.id == run_id)).mappings().first()
        return dict(found) if found else None

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        with self._read() as db:
            rows = db.execute(sa.select(RUN).order_by(RUN.c.started_at.desc()).limit(limit)).mappings().all()
        return [dict(row) for row in rows]

    # Rows

    def records(self, job: Job) -> dict[str, Record]:
        """All rows of a job, by data hash."""
        columns = (ROW.c.data_hash, ROW.c.state, ROW.c.reason, ROW.c.attempts, ROW.c.run_id, ROW.c.intent_digest)
        query = sa.select(*columns).where(_of(job))
        with self._read() as db:
            return {key: Record(State(state), *rest) for key, state, *rest in db.execute(query)}

    def find(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        """Take rows up as `found`: new ones, and those that ended as left alone or set aside."""
        known = self.records(job)
        fresh = [key for key in data_hashes if key not in known]
        ended = [key for key in data_hashes if key in known and known[key].state in _ENDS]
        with self._write() as db:
            for key in fresh:
                values = {**_key(job), "data_hash": key, "state": State.FOUND, "attempts": 0, "run_id": run_id}
                db.execute(ROW.insert().values(values))
                self._log(db, job, run_id, Move(key, State.FOUND))
            self._apply(db, job, run_id, [Move(key, State.FOUND) for key in ended])
            where = sa.and_(_of(job), ROW.c.data_hash.in_(ended))
            db.execute(ROW.update().where(where).values(_NO_TROUBLE))

    def move(self, job: Job, run_id: str, moves: Sequence[Move]) -> None:
        """Take rows one step on, all or none. Raises PermanentLedgerError for a step the table does not allow."""
        with self._write() as db:
            self._apply(db, job, run_id, moves)

    def start_attempt(self, job: Job, data_hashes: Sequence[str]) -> None:
        """Counted when rows start in the worker, before it can die on them; cleared by `put_detections`."""
        self._count(job, data_hashes, 1)

    def give_back_attempt(self, job: Job, data_hashes: Sequence[str]) -> None:
        """For an attempt that ended for another reason than these rows."""
        self._count(job, data_hashes, -1)

    def _count(self, job: Job, data_hashes: Sequence[str], by: int) -> None:
        with self._write() as db:
            where = sa.and_(_of(job), ROW.c.data_hash.in_(data_hashes))
            db.execute(ROW.update().where(where).values(attempts=ROW.c.attempts + by))

    def count_failed_download(self, job: Job, data_hash: str) -> int:
        """In how many runs a row's media were not to be had by now; cleared by `put_detections`."""
        failed = ROW.c.failed_downloads
        counting = ROW.update().where(_of(job), ROW.c.data_hash == data_hash).values(failed_downloads=failed + 1)
        with self._write() as db:
            return int(db.scalars(counting.returning(failed)).one())

    def put_detections(self, job: Job, run_id: str, chunks: Sequence[Chunk]) -> None:
        """Keep what inference said of some frames of each row; a row whose last chunk is kept is `inferred`."""
        with self._write() as db:
            for chunk in chunks:
                key = {"recipe_id": job.recipe_id, "data_hash": chunk.data_hash, "chunk": chunk.frames[0].frame_index}
                values = {"body": pack(list(chunk.frames)), "ends_row": chunk.ends_row}
                db.execute(insert(DETECTIONS).values(**key, **values).on_conflict_do_update(None, set_=values))
                db.execute(ROW.update().where(_of(job), ROW.c.data_hash == chunk.data_hash).values(_NO_TROUBLE))
            ended = [Move(chunk.data_hash, State.INFERRED) for chunk in chunks if chunk.ends_row]
            self._apply(db, job, run_id, ended)

    def stored(self, recipe_id: str) -> frozenset[str]:
        """Data hashes of rows of which all detections are kept: they cost no inference any more."""
        with self._read() as db:
            where = sa.and_(DETECTIONS.c.recipe_id == recipe_id, DETECTIONS.c.ends_row)
            return frozenset(db.scalars(sa.select(DETECTIONS.c.data_hash).where(where)))

    def detections(self, recipe_id: str, data_hash: str) -> Iterator[FrameLabels]:
        """What inference said of a row so far, in frame order; one chunk in memory at a time."""
        where = sa.and_(DETECTIONS.c.recipe_id == recipe_id, DETECTIONS.c.data_hash == data_hash)
        with self._read() as db:
            chunks = db.scalars(sa.select(DETECTIONS.c.chunk).where(where).order_by(DETECTIONS.c.chunk)).all()
        for chunk in chunks:
            with self._read() as db:
                body = db.scalars(sa.select(DETECTIONS.c.body).where(where, DETECTIONS.c.chunk == chunk)).one()
            yield from unpack(body)

    def our_hashes(self, project_hash: str) -> dict[str, dict[str, str]]:
        """Data hash -> object hash -> the recipe whose receipt names it there."""
        columns = (RECEIPT.c.data_hash, RECEIPT.c.recipe_id, RECEIPT.c.objects)
        found: dict[str, dict[str, str]] = {}
        with self._read() as db:
            for data_hash, recipe_id, objects in db.execute(
                sa.select(*columns).where(RECEIPT.c.project_hash == project_hash)
            ):
                found.setdefault(data_hash, {}).update(dict.fromkeys(json.loads(objects), recipe_id))
        return found

    # Undo: a mark a branch of a row, beside the receipt, which stays

    def receipts(self, run_id: str | None = None, naming: str | None = None) -> list[dict[str, Any]]:
        """Receipts of one run, or naming an object as ours: oldest first, `objects` as hash -> class feature hash."""
        of_run = sa.true() if run_id is None else RECEIPT.c.run_id == run_id
        with_object = sa.true() if naming is None else sa.func.instr(RECEIPT.c.objects, f"{json.dumps(naming)}:") > 0
        query = sa.select(RECEIPT).where(of_run, with_object).order_by(RECEIPT.c.at)
        with self._read() as db:
            return [{**row, "objects": json.loads(row["objects"])} for row in db.execute(query).mappings()]

    def undo_marks(self, project_hash: str, recipe_id: str) -> dict[tuple[str, str], dict[str, Any]]:
        """(data hash, branch) -> `from_stage` and `undone_at`, for every undo that began."""
        where = sa.and_(UNDO.c.project_hash == project_hash, UNDO.c.recipe_id == recipe_id)
        with self._read() as db:
            found = db.execute(sa.select(UNDO).where(where)).mappings()
            return {(row["data_hash"], row["branch"]): dict(row) for row in found}

    def begin_undo(self, job: Job, data_hash: str, branch: str, from_stage: str | None) -> None:
        """Noted before anything is taken away; `from_stage`: where its task is to go back to, None once it is."""
        with self._write() as db:
            self._mark_undo(db, job, data_hash, branch, {"from_stage": from_stage})

    def end_undo(self, job: Job, run_id: str, data_hash: str, branch: str, *, ends_row: bool) -> None:
        """A row is undone on a branch; `ends_row` where that is the one that counts."""
        where = sa.and_(_of(job), ROW.c.data_hash == data_hash, ROW.c.run_id == run_id)
        with self._write() as db:
            self._mark_undo(db, job, data_hash, branch, {"undone_at": self._clock()})
            stands = db.scalar(sa.select(ROW.c.state).where(where)) in (State.INTENT, State.WRITTEN, State.DONE)
            if ends_row and stands:
                self._apply(db, job, run_id, [Move(data_hash, State.LEFT_ALONE, Reason.UNDONE)])

    def _mark_undo(self, db: sa.Connection, job: Job, data_hash: str, branch: str, values: Mapping[str, Any]) -> None:
        key = {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "data_hash": data_hash, "branch": branch}
        db.execute(insert(UNDO).values(**key, **values).on_conflict_do_update(None, set_=values))

    def undone(self, project_hash: str, recipe_id: str) -> frozenset[str]:
        """Data hashes of rows whose labels of a recipe were taken back, wherever they had gone."""
        where = sa.and_(ROW.c.project_hash == project_hash, ROW.c.recipe_id == recipe_id)
        with self._read() as db:
            return frozenset(db.scalars(sa.select(ROW.c.data_hash).where(where, ROW.c.reason == Reason.UNDONE)))

    def counts(self) -> list[dict[str, Any]]:
        """Rows by project, recipe, destination, state and reason."""
        columns = (ROW.c.project_hash, ROW.c.recipe_id, ROW.c.destination, ROW.c.state, ROW.c.reason)
        query = sa.select(*columns, sa.func.count().label("rows")).group_by(*columns).order_by(*columns)
        with self._read() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def messages(self, limit: int) -> list[dict[str, Any]]:
        """Rows set aside, with what was wrong."""
        query = sa.select(ROW.c.data_hash, ROW.c.project_hash, ROW.c.reason, ROW.c.message)
        with self._read() as db:
            found = db.execute(query.where(ROW.c.state == State.SET_ASIDE).limit(limit)).mappings()
            return [dict(row) for row in found]

    def _apply(self, db: sa.Connection, job: Job, run_id: str, moves: Sequence[Move]) -> None:
        for move in moves:
            where = sa.and_(_of(job), ROW.c.data_hash == move.data_hash)
            now = db.scalar(sa.select(ROW.c.state).where(where))
            if now is None or move.state not in ALLOWED[State(now)]:
                raise PermanentLedgerError(
                    f"row {move.data_hash} cannot go from {now} to {move.state}; this is a bug"
                )
            values = {"state": move.state, "reason": move.reason, "message": move.message, "run_id": run_id}
            if move.intent_digest:
                values["intent_digest"] = move.intent_digest
            db.execute(ROW.update().where(where).values(values))
            if move.receipt:
                self._keep_receipt(db, job, run_id, move.data_hash, move.receipt)
            self._log(db, job, run_id, move)

    def _keep_receipt(self, db: sa.Connection, job: Job, run_id: str, data_hash: str, receipt: Receipt) -> None:
        key = {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "data_hash": data_hash}
        values = {
            "branch": receipt.branch,
            "label_hash": receipt.label_hash,
            "objects": json.dumps(dict(receipt.objects)),
            "digest": receipt.digest,
            "samples_per_second": receipt.samples_per_second,
            "run_id": run_id,
            "at": self._clock(),
        }
        db.execute(insert(RECEIPT).values(**key, **values).on_conflict_do_update(None, set_=values))

    def _log(self, db: sa.Connection, job: Job, run_id: str, move: Move) -> None:
        values = {"at": self._clock(), "run_id": run_id, "data_hash": move.data_hash, "destination": job.destination}
        db.execute(EVENT.insert().values(**values, state=move.state, reason=move.reason))


def _key(job: Job) -> dict[str, str]:
    return {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "destination": job.destination}


def _of(job: Job) -> sa.ColumnElement[bool]:
    return sa.and_(*(ROW.c[name] == value for name, value in _key(job).items()))
