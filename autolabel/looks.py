"""When each project was looked at last, by whom, and how that ended: also where there was nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from autolabel.database import Database
from autolabel.schema import LOOK, insert


@dataclass(frozen=True)
class Look:
    """One look at a project.

    - `called_by`: `cli`, `cron` or `webhook`.
    - `run_id`: None where there was nothing to do, or no run came of it.
    - `error`: in one line, None where all went well.
    """

    project_hash: str
    called_by: str
    project_title: str = ""
    run_id: str | None = None
    error: str | None = None


class Looks:
    """The latest look at each project. Every method is one transaction, durable when it returns."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def close(self) -> None:
        self._database.close()

    def note(self, look: Look) -> None:
        """Keep a look in the place of the one before; when one succeeded last is kept beside it."""
        values = {**vars(look), "at": self._clock()}
        if look.error is None:
            values["succeeded_at"] = values["at"]
        with self._database.write() as db:
            fresh = insert(LOOK, db).values(values)
            changes = {name: values[name] for name in values if name != "project_hash"}
            if not look.project_title:
                del changes["project_title"]
            db.execute(fresh.on_conflict_do_update(index_elements=[LOOK.c.project_hash], set_=changes))

    def all(self) -> list[dict[str, Any]]:
        """By project, as the table holds them: see `Look`; `at` and `succeeded_at` in seconds since 1970."""
        with self._database.read() as db:
            found = db.execute(sa.select(LOOK).order_by(LOOK.c.project_title)).mappings()
            return [dict(row) for row in found]
