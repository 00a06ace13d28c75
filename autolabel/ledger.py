"""Our own durable record of every label row: its state, detections and receipts. One transaction a step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import sqlalchemy as sa

from autolabel.core.detections import FrameLabels, pack, unpack
from autolabel.core.rows import Reason
from autolabel.database import Database
from autolabel.errors import PermanentLedgerError
from autolabel.logs import get_logger
from autolabel.protocols import Receipt
from autolabel.receipts import Receipts
from autolabel.schema import (
    DETECTIONS,
    EVENT,
    MOVE_ROW,
    RECEIPT,
    ROW,
    RUN,
    STEP,
    UNDO,
    all_detections,
    insert,
    on_main,
    upsert,
)
from autolabel.states import ALLOWED, ENDS, SETTLED, Chunk, Claims, Job, Move, Record, State

logger = get_logger(__name__)

LEASE_S = 900.0
"""What a run has claimed is its own for so long after its last step: much longer than any one chunk takes."""
READ_CHUNKS = 2

_NO_TROUBLE = {"attempts": 0, "failed_downloads": 0}


class Ledger(Receipts):
    """All access to it. Every method is one transaction, durable when it returns; safe between threads.

    A row under way belongs to the run that claimed it: until it is settled, until that run ends or dies, or until
    the run has taken no step for `lease_s`. Steps of a row by another run are left out. `is_alive` tells of a run
    that has not ended whether its process still lives.

    Each step of a row, and of a run, is one line of the log, written when it is on the disk.

    Raises PermanentLedgerError, before anything is written remotely, for a database that cannot be trusted, and
    TransientLedgerError where another process does not let go of it or its server is away.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float],
        is_alive: Callable[[str], bool] = lambda run_id: True,
        lease_s: float = LEASE_S,
    ) -> None:
        super().__init__(database, clock)
        self._is_alive, self._lease_s = is_alive, lease_s
        self._steps: list[dict[str, str]] = []

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _write(self, run_id: str | None = None) -> Iterator[sa.Connection]:
        """A transaction that renews the run's lease; the steps in it are told once they are on the disk."""
        with self._database.write() as db:
            steps = self._steps = []  # nobody else writes meanwhile
            if run_id is not None:
                until = self._clock() + self._lease_s
                db.execute(RUN.update().where(RUN.c.id == run_id).values(lease_until=until))
            yield db
        for step in steps:
            logger.info("row", **step)

    # Runs

    def start_run(self, run_id: str, job: Job, title: str, recipe: Mapping[str, Any]) -> None:
        """Open a run. Raises PermanentDiskError where the disk has no room for what it will keep."""
        self._database.check_room()
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
                    lease_until=self._clock() + self._lease_s,
                )
            )
        logger.info("run", run=run_id, project=job.project_hash, state="started")

    def finish_run(self, run_id: str, summary: Mapping[str, Any]) -> None:
        with self._write() as db:
            values = {"finished_at": self._clock(), "summary": json.dumps(summary)}
            ending = RUN.update().where(RUN.c.id == run_id).values(values)
            project = db.scalar(ending.returning(RUN.c.project_hash))
        logger.info("run", run=run_id, project=project, state="ended")

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A run's record, or None."""
        with self._database.read() as db:
            found = db.execute(sa.select(RUN).where(RUN.c.id == run_id)).mappings().first()
        return dict(found) if found else None

    # Rows

    def records(self, job: Job) -> dict[str, Record]:
        """All rows of a job, by data hash."""
        with self._database.read() as db:
            return self._records(db, _of(job))

    def _records(self, db: sa.Connection, where: sa.ColumnElement[bool]) -> dict[str, Record]:
        columns = (ROW.c.data_hash, ROW.c.state, ROW.c.reason, ROW.c.attempts, ROW.c.run_id, ROW.c.intent_digest)
        found = db.execute(sa.select(*columns).where(where))
        return {key: Record(State(state), *rest) for key, state, *rest in found}

    def claim(self, job: Job, run_id: str, data_hashes: Sequence[str], seen: Mapping[str, Record]) -> Claims:
        """Take rows for a run: those that nobody has under way, or settled since they were `seen`.

        They end as `leased`, or further where an earlier run got: `inferred` where all detections are kept.
        """
        with self._write(run_id) as db:
            elsewhere = self._take_up(db, job, run_id, data_hashes, seen)
            mine = sa.and_(_of(job), ROW.c.data_hash.in_(set(data_hashes) - set(elsewhere)))
            taken = self._records(db, mine)
            if done := [key for key, record in taken.items() if record.state == State.DONE]:
                raise PermanentLedgerError(f"row {done[0]} is done and cannot be claimed; this is a bug")
            fresh = [key for key, record in taken.items() if record.state == State.FOUND]
            self._apply(db, job, run_id, [Move(key, State.LEASED) for key in fresh])
            where = sa.and_(all_detections(job.recipe_id), DETECTIONS.c.data_hash.in_(fresh))
            kept = db.scalars(sa.select(DETECTIONS.c.data_hash).where(where)).all()
            self._apply(db, job, run_id, [Move(key, State.INFERRED) for key in kept])
            return Claims(self._records(db, mine), elsewhere)

    def leave(self, job: Job, run_id: str, reasons: Mapping[str, str], seen: Mapping[str, Record]) -> frozenset[str]:
        """Leave rows alone, each for its reason, also rows that are done; which of them it was.

        As with `claim`, not those that another run has under way, or settled since they were `seen`.
        """
        with self._write(run_id) as db:
            elsewhere = self._take_up(db, job, run_id, list(reasons), seen)
            left = [Move(key, State.LEFT_ALONE, why) for key, why in reasons.items() if key not in elsewhere]
            return self._apply(db, job, run_id, left)

    def _take_up(
        self, db: sa.Connection, job: Job, run_id: str, data_hashes: Sequence[str], seen: Mapping[str, Record]
    ) -> dict[str, str]:
        """Make rows this run's own, where they are free; for the others, whose they are."""
        known = self._records(db, sa.and_(_of(job), ROW.c.data_hash.in_(data_hashes)))
        self._add(db, job, run_id, [key for key in data_hashes if key not in known])
        elsewhere: dict[str, str] = {}
        is_held = cache(partial(self._is_held, db, run_id=run_id))
        for key in data_hashes:
            if (now := known.get(key)) is None:
                continue
            if now != seen.get(key) if now.state in SETTLED else is_held(now.run_id):
                elsewhere[key] = now.run_id
            else:
                ended = now.state in ENDS
                values = {"run_id": run_id, **(_NO_TROUBLE if ended else {})}
                db.execute(ROW.update().where(_of(job), ROW.c.data_hash == key).values(values))
                if ended or now.state == State.LEASED:
                    self._apply(db, job, run_id, [Move(key, State.FOUND)])
        return elsewhere

    def _add(self, db: sa.Connection, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        if data_hashes:
            values = {**_key(job), "state": State.FOUND, "attempts": 0, "run_id": run_id}
            db.execute(ROW.insert(), [{**values, "data_hash": key} for key in data_hashes])
            self._log(db, job, run_id, [Move(key, State.FOUND) for key in data_hashes])

    def _is_held(self, db: sa.Connection, owner: str, run_id: str) -> bool:
        """Whether a row's run is another one that lives and took a step within its lease."""
        if owner == run_id:
            return False
        holding = sa.and_(RUN.c.id == owner, RUN.c.finished_at.is_(None), RUN.c.lease_until > self._clock())
        return db.scalar(sa.select(sa.func.count()).where(holding)) == 1 and self._is_alive(owner)

    def move(self, job: Job, run_id: str, moves: Sequence[Move]) -> frozenset[str]:
        """Take rows one step on, all or none; those that another run took over are left out. Which ones moved.

        Raises PermanentLedgerError for a step the table does not allow.
        """
        with self._write(run_id) as db:
            return self._apply(db, job, run_id, moves)

    def owned(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> frozenset[str]:
        """Which of these rows are still the run's own."""
        with self._database.read() as db:
            return frozenset(db.scalars(sa.select(ROW.c.data_hash).where(_own(job, run_id, data_hashes))))

    def start_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        """Counted when rows start in the worker, before it can die on them; cleared by `put_detections`."""
        self._count(job, run_id, data_hashes, 1)

    def give_back_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        """For an attempt that ended for another reason than these rows."""
        self._count(job, run_id, data_hashes, -1)

    def _count(self, job: Job, run_id: str, data_hashes: Sequence[str], by: int) -> None:
        with self._write(run_id) as db:
            db.execute(ROW.update().where(_own(job, run_id, data_hashes)).values(attempts=ROW.c.attempts + by))

    def count_failed_download(self, job: Job, run_id: str, data_hash: str) -> int:
        """In how many runs a row's media were not to be had by now; cleared by `put_detections`."""
        failed, mine = ROW.c.failed_downloads, _own(job, run_id, [data_hash])
        with self._write(run_id) as db:
            counted = db.scalar(ROW.update().where(mine).values(failed_downloads=failed + 1).returning(failed))
            return int(counted or 0)

    def put_detections(self, job: Job, run_id: str, chunks: Sequence[Chunk]) -> frozenset[str]:
        """Keep what inference said of some frames of each row; a row whose last chunk is kept is `inferred`.

        Rows that another run took over are left out. Which ones were kept.
        """
        with self._write(run_id) as db:
            mine = _own(job, run_id, [chunk.data_hash for chunk in chunks])
            owned = frozenset(db.scalars(sa.select(ROW.c.data_hash).where(mine)))
            kept = [chunk for chunk in chunks if chunk.data_hash in owned]
            packed = [
                {"recipe_id": job.recipe_id, "data_hash": chunk.data_hash, "chunk": chunk.frames[0].frame_index}
                | {"body": pack(list(chunk.frames)), "ends_row": chunk.ends_row}
                for chunk in kept
            ]
            if packed:
                db.execute(upsert(DETECTIONS, db), packed)
            db.execute(ROW.update().where(mine).values(_NO_TROUBLE))
            self._apply(db, job, run_id, [Move(chunk.data_hash, State.INFERRED) for chunk in kept if chunk.ends_row])
            return owned

    def stored(self, recipe_id: str) -> frozenset[str]:
        """Data hashes of rows of which all detections are kept: they cost no inference any more."""
        with self._database.read() as db:
            return frozenset(db.scalars(sa.select(DETECTIONS.c.data_hash).where(all_detections(recipe_id))))

    def detections(self, recipe_id: str, data_hash: str) -> Iterator[FrameLabels]:
        """What inference said of a row so far, in frame order; READ_CHUNKS in memory at a time, packed."""
        of_row = sa.and_(DETECTIONS.c.recipe_id == recipe_id, DETECTIONS.c.data_hash == data_hash)
        query = sa.select(DETECTIONS.c.chunk, DETECTIONS.c.body).order_by(DETECTIONS.c.chunk).limit(READ_CHUNKS)
        last, ended = -1, False
        while not ended:
            with self._database.read() as db:
                found = db.execute(query.where(of_row, DETECTIONS.c.chunk > last)).all()
            for chunk in found:
                yield from unpack(chunk.body)
                last = chunk.chunk
            ended = len(found) < READ_CHUNKS

    def note_edits(self, project_hash: str, edited_at_s: Mapping[str, float | None]) -> None:
        """Keep until when the changes of rows on `main` have been looked at, by data hash."""
        with self._write() as db:
            for key, moment in edited_at_s.items():
                where = sa.and_(on_main(project_hash), RECEIPT.c.data_hash == key)
                db.execute(RECEIPT.update().where(where).values(edited_at=moment))

    # Undo: a mark a branch of a row, beside the receipt, which stays

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
        put = insert(UNDO, db).values(**key, **values)
        db.execute(put.on_conflict_do_update(index_elements=list(UNDO.primary_key), set_=values))

    def _apply(self, db: sa.Connection, job: Job, run_id: str, moves: Sequence[Move]) -> frozenset[str]:
        """The steps of rows that are the run's own. A statement a table, not a row: it costs more than its rows."""
        asked = ROW.c.data_hash.in_([move.data_hash for move in moves])
        stands = sa.select(ROW.c.data_hash, ROW.c.state, ROW.c.run_id).where(_of(job), asked)
        rows = {key: (State(state), owner) for key, state, owner in db.execute(stands)}
        states = {key: state for key, (state, owner) in rows.items() if owner == run_id}
        mine = [move for move in moves if move.data_hash in states or move.data_hash not in rows]
        for move in mine:
            now = states.get(move.data_hash)
            if now is None or move.state not in ALLOWED[now]:
                raise PermanentLedgerError(
                    f"row {move.data_hash} cannot go from {now} to {move.state}; this is a bug"
                )
            states[move.data_hash] = move.state
        if mine:
            db.execute(
                MOVE_ROW.where(_of(job)), [{f"its_{name}": getattr(move, name) for name in STEP} for move in mine]
            )
            self._log(db, job, run_id, mine)
        if receipts := [self._receipt(job, run_id, move.data_hash, move.receipt) for move in mine if move.receipt]:
            db.execute(upsert(RECEIPT, db), receipts)
        return frozenset(move.data_hash for move in mine)

    def _receipt(self, job: Job, run_id: str, data_hash: str, receipt: Receipt) -> dict[str, Any]:
        return {
            "project_hash": job.project_hash,
            "recipe_id": job.recipe_id,
            "data_hash": data_hash,
            "branch": receipt.branch,
            "label_hash": receipt.label_hash,
            "objects": json.dumps(dict(receipt.objects)),
            "digest": receipt.digest,
            "samples_per_second": receipt.samples_per_second,
            "run_id": run_id,
            "at": self._clock(),
            "edited_at": receipt.edited_at_s,
        }

    def _log(self, db: sa.Connection, job: Job, run_id: str, moves: Sequence[Move]) -> None:
        values = {"at": self._clock(), "run_id": run_id, "destination": job.destination}
        steps = [{"data_hash": move.data_hash, "state": move.state, "reason": move.reason} for move in moves]
        db.execute(EVENT.insert(), [values | step for step in steps])
        told = {"run": run_id, "project": job.project_hash}
        for move in moves:
            why = {"reason": move.reason} if move.reason else {}
            self._steps.append({**told, "row": move.data_hash, "state": move.state.value, **why})


def _key(job: Job) -> dict[str, str]:
    return {"project_hash": job.project_hash, "recipe_id": job.recipe_id, "destination": job.destination}


def _of(job: Job) -> sa.ColumnElement[bool]:
    return sa.and_(*(ROW.c[name] == value for name, value in _key(job).items()))


def _own(job: Job, run_id: str, data_hashes: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(_of(job), ROW.c.data_hash.in_(data_hashes), ROW.c.run_id == run_id)
