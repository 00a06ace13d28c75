"""What an operator asks the ledger: what ran, what became of all rows, what is wrong. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from autolabel.core.endings import Ending
from autolabel.database import Database
from autolabel.schema import RECEIPT, ROW, RUN
from autolabel.states import State


class Overview:
    """Looks over all projects. `is_alive` tells of a run that has not ended whether its process still lives."""

    def __init__(self, database: Database, is_alive: Callable[[str], bool] = lambda run_id: True) -> None:
        self._database, self._is_alive = database, is_alive

    def close(self) -> None:
        self._database.close()

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs, newest first, each with whether it is still under way: `is_alive`."""
        with self._database.read() as db:
            rows = db.execute(sa.select(RUN).order_by(RUN.c.started_at.desc()).limit(limit)).mappings().all()
        return [{**row, "is_alive": row["finished_at"] is None and self._is_alive(row["id"])} for row in rows]

    def counts(self) -> list[dict[str, Any]]:
        """Rows by project, recipe, destination, state and reason."""
        columns = (ROW.c.project_hash, ROW.c.recipe_id, ROW.c.destination, ROW.c.state, ROW.c.reason)
        query = sa.select(*columns, sa.func.count().label("rows")).group_by(*columns).order_by(*columns)
        with self._database.read() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def messages(self, limit: int) -> list[dict[str, Any]]:
        """Rows set aside, with what was wrong."""
        query = sa.select(ROW.c.data_hash, ROW.c.project_hash, ROW.c.reason, ROW.c.message)
        with self._database.read() as db:
            found = db.execute(query.where(ROW.c.state == State.SET_ASIDE).limit(limit)).mappings()
            return [dict(row) for row in found]

    def endings(self, project_hash: str, limit: int) -> list[Ending]:
        """How a project's latest runs ended, newest first; none that is under way."""
        wrote = sa.exists().where(RECEIPT.c.run_id == RUN.c.id).label("wrote")
        query = sa.select(RUN.c.id, RUN.c.finished_at, RUN.c.summary, wrote).order_by(RUN.c.started_at.desc())
        with self._database.read() as db:
            found = db.execute(query.where(RUN.c.project_hash == project_hash).limit(limit)).all()
        return [
            Ending(run.id, json.loads(run.summary) if run.summary else None, bool(run.wrote))
            for run in found
            if run.finished_at is not None or not self._is_alive(run.id)
        ]

    def titles(self) -> dict[str, str]:
        """Project hash -> its latest title, of all projects of which there was a run."""
        query = sa.select(RUN.c.project_hash, RUN.c.project_title).order_by(RUN.c.started_at)
        with self._database.read() as db:
            return {run.project_hash: run.project_title for run in db.execute(query)}
