"""What the ledger knows of all that was written, and taken back since. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from autolabel.core.rows import Reason
from autolabel.database import Database
from autolabel.schema import EVENT, RECEIPT, ROW, RUN, STANDS, UNDO, on_main
from autolabel.states import Landed, State


class Receipts:
    """The part of the ledger that tells of receipts: what was read back after a write, by row and branch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def written_to(self, project_hash: str, branch: str, data_hashes: Sequence[str]) -> frozenset[str]:
        """Which of these rows have a receipt on a branch that is not undone."""
        where = sa.and_(
            STANDS,
            RECEIPT.c.project_hash == project_hash,
            RECEIPT.c.branch == branch,
            RECEIPT.c.data_hash.in_(data_hashes),
        )
        with self._database.read() as db:
            return frozenset(db.scalars(sa.select(RECEIPT.c.data_hash).where(where)))

    def our_hashes(self, project_hash: str) -> dict[str, dict[str, str]]:
        """Data hash -> object hash -> the recipe whose receipt names it there."""
        columns = (RECEIPT.c.data_hash, RECEIPT.c.recipe_id, RECEIPT.c.objects)
        found: dict[str, dict[str, str]] = {}
        with self._database.read() as db:
            for data_hash, recipe_id, objects in db.execute(
                sa.select(*columns).where(RECEIPT.c.project_hash == project_hash)
            ):
                found.setdefault(data_hash, {}).update(dict.fromkeys(json.loads(objects), recipe_id))
        return found

    def landed(self, project_hash: str) -> dict[str, Landed]:
        """By data hash, the rows of a project for which there is a receipt on `main`, the latest one; none undone."""
        columns = (RECEIPT.c.data_hash, RECEIPT.c.objects, RECEIPT.c.edited_at, RECEIPT.c.at)
        query = sa.select(*columns).where(on_main(project_hash), STANDS).order_by(RECEIPT.c.at)
        with self._database.read() as db:
            now = self._clock()
            return {
                key: Landed(frozenset(json.loads(objects)), edited_at, now - at)
                for key, objects, edited_at, at in db.execute(query)
            }

    def objects_within(self, project_hash: str, seconds: float) -> int:
        """How many objects were written for a project in the last so many seconds; each once, on any branch."""
        where = sa.and_(RECEIPT.c.project_hash == project_hash, RECEIPT.c.at >= self._clock() - seconds)
        with self._database.read() as db:
            found = db.scalars(sa.select(RECEIPT.c.objects).where(where))
            return len({name for objects in found for name in json.loads(objects)})

    def receipts(self, run_id: str | None = None, naming: str | None = None) -> list[dict[str, Any]]:
        """Receipts of one run, or naming an object as ours: oldest first, `objects` as hash -> class feature hash."""
        query, names = sa.select(RECEIPT), RECEIPT.c.objects
        if run_id is not None:
            query = query.where(RECEIPT.c.run_id == run_id)
        if naming is not None:  # by replacing: databases differ in whether LIKE tells capitals from small letters
            query = query.where(sa.func.replace(names, f"{json.dumps(naming)}:", "") != names)
        return self._receipts(query)

    def receipts_of(self, project_hash: str, recipe_id: str) -> list[dict[str, Any]]:
        """Receipts of a recipe in a project, on all branches; as `receipts` gives them."""
        of_recipe = sa.and_(RECEIPT.c.project_hash == project_hash, RECEIPT.c.recipe_id == recipe_id)
        return self._receipts(sa.select(RECEIPT).where(of_recipe))

    def _receipts(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._database.read() as db:
            found = db.execute(query.order_by(RECEIPT.c.at)).mappings()
            return [{**row, "objects": json.loads(row["objects"])} for row in found]

    def undo_marks(self, project_hash: str, recipe_id: str) -> dict[tuple[str, str], dict[str, Any]]:
        """(data hash, branch) -> `from_stage` and `undone_at`, for every undo that began."""
        where = sa.and_(UNDO.c.project_hash == project_hash, UNDO.c.recipe_id == recipe_id)
        with self._database.read() as db:
            found = db.execute(sa.select(UNDO).where(where)).mappings()
            return {(row["data_hash"], row["branch"]): dict(row) for row in found}

    def undone(self, project_hash: str, recipe_id: str) -> frozenset[str]:
        """Data hashes of rows whose labels of a recipe were taken back, wherever they had gone."""
        where = sa.and_(ROW.c.project_hash == project_hash, ROW.c.recipe_id == recipe_id)
        with self._database.read() as db:
            return frozenset(db.scalars(sa.select(ROW.c.data_hash).where(where, ROW.c.reason == Reason.UNDONE)))

    def runs(self, project_hash: str) -> list[dict[str, Any]]:
        """`id`, `recipe_id`, `destination` and `started_at` of a project's runs, oldest first."""
        columns = (RUN.c.id, RUN.c.recipe_id, RUN.c.destination, RUN.c.started_at)
        query = sa.select(*columns).where(RUN.c.project_hash == project_hash).order_by(RUN.c.started_at, RUN.c.id)
        with self._database.read() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def ended(self, project_hash: str, state: State, reason: Reason | None = None) -> dict[str, set[str]]:
        """Data hash -> the runs that took a row to a state, for any reason or one, wherever it went since."""
        query = sa.select(EVENT.c.data_hash, EVENT.c.run_id).join_from(EVENT, RUN, RUN.c.id == EVENT.c.run_id)
        query = query.where(RUN.c.project_hash == project_hash, EVENT.c.state == state)
        if reason is not None:
            query = query.where(EVENT.c.reason == reason)
        found: dict[str, set[str]] = {}
        with self._database.read() as db:
            for data_hash, run_id in db.execute(query):
                found.setdefault(data_hash, set()).add(run_id)
        return found
