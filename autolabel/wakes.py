"""What webhooks asked for, durably: authentic calls that were acknowledged, and the runs that are still owed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from autolabel.database import Database
from autolabel.schema import INBOX, WAKE, insert

KEEP_CALLS_S = 3600.0
"""Longer than twice the time for which a signature holds: a call that comes again is known for what it is."""


@dataclass(frozen=True)
class Hint:
    """What a call speaks of: a hint that there may be work, never the work itself.

    - `project_hash`: "" where the projects are still to be looked up.
    - `place`: a stage's uuid, or `dataset/HASH` or `folder/UUID`.
    """

    project_hash: str
    place: str


@dataclass(frozen=True)
class Wake:
    """A run that is owed: of `requested` hints, no run has begun after the latest."""

    hint: Hint
    requested: int
    at_s: float


class Wakes:
    """Hints are coalesced by project and place. Every method is one transaction, durable when it returns."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def close(self) -> None:
        self._database.close()

    def check(self) -> None:
        """Raises the AutolabelError for which no call could be kept now."""
        self._database.check_room()
        with self._database.write():
            pass

    def accept(self, digest: str, hint: Hint) -> bool:
        """Keep an authentic call and ask for a run. False, and nothing more is asked for, where it came before.

        `digest`: of all that was signed; the call is known by it when it comes again.
        """
        now_s = self._clock()
        call = {"mac": digest, "project_hash": hint.project_hash, "place": hint.place, "at": now_s}
        with self._database.write() as db:
            kept = insert(INBOX, db).values(call).on_conflict_do_nothing().returning(INBOX.c.mac)
            if db.scalar(kept) is None:
                return False
            self._request(db, hint, now_s)
        return True

    def request(self, hint: Hint) -> None:
        """Ask for a run."""
        with self._database.write() as db:
            self._request(db, hint, self._clock())

    def _request(self, db: sa.Connection, hint: Hint, now_s: float) -> None:
        fresh = {"project_hash": hint.project_hash, "place": hint.place, "requested": 1, "served": 0}
        asked = insert(WAKE, db).values(**fresh, at=now_s, not_before=0.0)
        more = {"requested": WAKE.c.requested + 1, "at": now_s}
        db.execute(asked.on_conflict_do_update(index_elements=[WAKE.c.project_hash, WAKE.c.place], set_=more))

    def owed(self) -> list[Wake]:
        """Longest owed first; none that is to be tried again later."""
        due = sa.and_(WAKE.c.requested > WAKE.c.served, WAKE.c.not_before <= self._clock())
        with self._database.read() as db:
            found = db.execute(sa.select(WAKE).where(due).order_by(WAKE.c.at))
            return [Wake(Hint(row.project_hash, row.place), row.requested, row.at) for row in found]

    def depth(self) -> int:
        """How many runs are owed, also those that are to be tried again later."""
        with self._database.read() as db:
            owed = sa.select(sa.func.count()).select_from(WAKE).where(WAKE.c.requested > WAKE.c.served)
            return int(db.scalar(owed) or 0)

    def settle(self, wake: Wake) -> None:
        """A run that began after this wake has ended; hints that came meanwhile are still owed."""
        with self._database.write() as db:
            served = {"served": wake.requested, "not_before": 0.0}
            db.execute(WAKE.update().where(_of(wake.hint), WAKE.c.served < wake.requested).values(served))
            db.execute(INBOX.delete().where(INBOX.c.at < self._clock() - KEEP_CALLS_S))

    def put_off(self, wake: Wake, delay_s: float) -> None:
        """No run came of it: it stays owed, and is tried again after a while, unless another run has settled it."""
        with self._database.write() as db:
            later = WAKE.update().where(_of(wake.hint), WAKE.c.served < wake.requested)
            db.execute(later.values(not_before=self._clock() + delay_s))


def _of(hint: Hint) -> sa.ColumnElement[bool]:
    return sa.and_(WAKE.c.project_hash == hint.project_hash, WAKE.c.place == hint.place)
