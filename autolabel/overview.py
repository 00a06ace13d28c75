"""What an operator asks the ledger: what ran, what became of all rows, what is wrong. Reads only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from autolabel.core.endings import Ending
from autolabel.database import Database
from autolabel.schema import EVENT, LOOK, RECEIPT, ROW, RUN, WAKE
from autolabel.states import ENDS, SETTLED, State

HOUR_S = 3600
OUTCOMES = ("labelled", "empty", "left_alone", "set_aside", "under_way")
"""What became of a row: `empty` where nothing was found, `under_way` where it is not settled yet."""

_OUTCOME = sa.case(
    (ROW.c.state.not_in(SETTLED), "under_way"),
    (ROW.c.state != State.DONE, ROW.c.state),
    (ROW.c.intent_digest.is_(None), "empty"),
    else_="labelled",
)


class Overview:
    """Looks over all projects. `is_alive` tells of a run that has not ended whether its process still lives."""

    def __init__(self, database: Database, is_alive: Callable[[str], bool] = lambda run_id: True) -> None:
        self._database, self._is_alive = database, is_alive

    def close(self) -> None:
        self._database.close()

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs, newest first, as the table holds them, each with its `facts`."""
        return self._runs(sa.select(RUN).order_by(RUN.c.started_at.desc()).limit(limit))

    def _runs(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._database.read() as db:
            found = [dict(row) for row in db.execute(query).mappings()]
        gone = [run["id"] for run in found if run["finished_at"] is None and not self._is_alive(run["id"])]
        killed = set[str]()
        if gone:  # looked at again: one may have ended in between, as it should
            with self._database.read() as db:
                still = sa.select(RUN.c.id).where(RUN.c.id.in_(gone), RUN.c.finished_at.is_(None))
                killed = set(db.scalars(still))
        return [run | facts(run, is_alive=run["finished_at"] is None and run["id"] not in killed) for run in found]

    def counts(self) -> list[dict[str, Any]]:
        """Rows by project, recipe, destination, state and reason."""
        columns = (ROW.c.project_hash, ROW.c.recipe_id, ROW.c.destination, ROW.c.state, ROW.c.reason)
        query = sa.select(*columns, sa.func.count().label("rows")).group_by(*columns).order_by(*columns)
        with self._database.read() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def messages(self, limit: int) -> list[dict[str, Any]]:
        """Rows set aside, with what was wrong; those of the latest run first."""
        query = sa.select(ROW.c.data_hash, ROW.c.project_hash, ROW.c.reason, ROW.c.message)
        with self._database.read() as db:
            aside = query.where(ROW.c.state == State.SET_ASIDE).order_by(ROW.c.run_id.desc()).limit(limit)
            return [dict(row) for row in db.execute(aside).mappings()]

    def outcomes(self) -> list[tuple[str, str, str, int]]:
        """(project hash, one of OUTCOMES, reason or "", rows): all rows, once a recipe and destination."""
        reason = sa.case((ROW.c.state.in_(ENDS), sa.func.coalesce(ROW.c.reason, "")), else_="")
        each = sa.select(ROW.c.project_hash, _OUTCOME.label("outcome"), reason.label("reason"))
        with self._database.read() as db:
            return [(project, outcome, why, rows) for project, outcome, why, rows in db.execute(_counted(each))]

    def by_hour(self, since_s: float) -> Counter[tuple[int, str]]:
        """(hours since 1970, one of OUTCOMES) -> how many rows were settled so in that hour."""
        hour = sa.cast(EVENT.c.at, sa.BigInteger) // HOUR_S
        # A row may have gone on since: the event says how it ended then, the row itself only whether it was empty.
        is_empty = ROW.c.intent_digest.is_(None)
        outcome = sa.case((EVENT.c.state != State.DONE, EVENT.c.state), (is_empty, "empty"), else_="labelled")
        its_row = sa.and_(
            ROW.c.project_hash == RUN.c.project_hash,
            ROW.c.recipe_id == RUN.c.recipe_id,
            ROW.c.destination == EVENT.c.destination,
            ROW.c.data_hash == EVENT.c.data_hash,
        )
        joined = EVENT.join(RUN, RUN.c.id == EVENT.c.run_id).join(ROW, its_row)
        settled = sa.and_(EVENT.c.at >= since_s, EVENT.c.state.in_(SETTLED))
        each = sa.select(hour.label("hour"), outcome.label("outcome")).select_from(joined).where(settled)
        with self._database.read() as db:
            return Counter({(int(when), what): rows for when, what, rows in db.execute(_counted(each))})

    def looks(self) -> list[dict[str, Any]]:
        """The latest look at each project; see `looks.Look`."""
        with self._database.read() as db:
            return [dict(row) for row in db.execute(sa.select(LOOK)).mappings()]

    def owed(self) -> Counter[str]:
        """Project hash -> runs that webhooks asked for and that are still to be; "" where it is to be looked up."""
        owed = sa.select(WAKE.c.project_hash, sa.func.count()).where(WAKE.c.requested > WAKE.c.served)
        with self._database.read() as db:
            return Counter({row[0]: row[1] for row in db.execute(owed.group_by(WAKE.c.project_hash))})

    def latest_runs(self) -> list[dict[str, Any]]:
        """The latest run of each project, as `runs` gives them but for recipe and summary."""
        last = sa.select(RUN.c.project_hash, sa.func.max(RUN.c.started_at).label("at")).group_by(RUN.c.project_hash)
        each = last.subquery()
        its = sa.and_(RUN.c.project_hash == each.c.project_hash, RUN.c.started_at == each.c.at)
        long = ("recipe", "summary")
        found = self._runs(sa.select(RUN).join(each, its))
        return [{name: value for name, value in run.items() if name not in long} for run in found]

    def unfinished(self) -> list[dict[str, Any]]:
        """Runs that are under way or were killed, as `runs` gives them."""
        return self._runs(sa.select(RUN).where(RUN.c.finished_at.is_(None)))

    def finished(self, since_s: float) -> list[dict[str, Any]]:
        """Runs that ended at that time or later, as `runs` gives them."""
        return self._runs(sa.select(RUN).where(RUN.c.finished_at >= since_s).order_by(RUN.c.finished_at))

    def projects(self) -> list[dict[str, Any]]:
        """Where each project stands: its latest look and run, rows by outcome and what is owed; trouble first.

        - `rows`: outcome -> count, with `reasons`: (outcome, reason, count) of those that are not labelled.
        - `look`, `run`: None where there was none.
        - `trouble`: in one line, None where all is well.
        """
        looks = {look["project_hash"]: look for look in self.looks()}
        runs = {run["project_hash"]: run for run in self.latest_runs()}
        owed, outcomes = self.owed(), self.outcomes()
        found = []
        for key in {*looks, *runs, *(row[0] for row in outcomes), *filter(None, owed)}:
            look, run = looks.get(key), runs.get(key)
            title = (look or {}).get("project_title") or (run or {}).get("project_title") or key
            mine = [(outcome, why, rows) for project, outcome, why, rows in outcomes if project == key]
            found.append(
                {
                    "project": key,
                    "title": title,
                    "look": look,
                    "run": run,
                    "rows": _sums((outcome, rows) for outcome, _, rows in mine),
                    "reasons": [item for item in mine if item[1]],
                    "owed": owed[key],
                    "trouble": _trouble(look, run),
                }
            )
        return sorted(found, key=lambda one: (one["trouble"] is None, one["title"].casefold(), one["project"]))

    def endings(self, project_hash: str, limit: int) -> list[Ending]:
        """How a project's latest runs ended, newest first; none that is under way."""
        query = sa.select(RUN.c.id, RUN.c.finished_at, RUN.c.summary).order_by(RUN.c.started_at.desc())
        with self._database.read() as db:
            found = db.execute(query.where(RUN.c.project_hash == project_hash).limit(limit)).all()
            # No index leads to a run's receipts: they are looked through once, not once a run.
            named = RECEIPT.c.run_id.in_([run.id for run in found])
            wrote = set(db.scalars(sa.select(RECEIPT.c.run_id).distinct().where(named)))
        return [
            Ending(run.id, json.loads(run.summary) if run.summary else None, run.id in wrote)
            for run in found
            if run.finished_at is not None or not self._is_alive(run.id)
        ]

    def titles(self) -> dict[str, str]:
        """Project hash -> its latest title, of all projects of which there was a run."""
        query = sa.select(RUN.c.project_hash, RUN.c.project_title).order_by(RUN.c.started_at)
        with self._database.read() as db:
            return {run.project_hash: run.project_title for run in db.execute(query)}


def _counted(each: sa.Select[Any]) -> sa.Select[Any]:
    """Rows of a query, and how many of each there are, in order. Only a subquery groups by expressions anywhere."""
    columns = each.subquery().c
    return sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)


def _sums(counted: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums = dict.fromkeys(OUTCOMES, 0)
    for outcome, rows in counted:
        sums[outcome] += rows
    return sums


def _trouble(look: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> str | None:
    """What is wrong with a project by its latest look, or by its latest run where that came after."""
    if look and look["error"]:
        return str(look["error"])
    is_latest = run is not None and (look is None or run["started_at"] > look["at"])
    if run is not None and is_latest and run["ended"] == "killed":
        return f"run {run['id']} was killed; the next one goes on from there"
    return None


def facts(run: Mapping[str, Any], *, is_alive: bool) -> dict[str, Any]:
    """What people ask of a run, from its record; None where it has not ended, or an older release did not say.

    - `ended`: `under way`, `killed`, `stopped` by an error, or `finished`.
    - `held_back`: why rows wait for a later run -> how many.
    """
    done = json.loads(run["summary"]) if run["summary"] else {}
    speed = done.get("speed", {})
    seconds, settled = speed.get("seconds"), done.get("labelled", 0) + done.get("empty", 0)
    ended = ("stopped" if done.get("stopped_by") else "finished") if done else "under way" if is_alive else "killed"
    return {
        "is_alive": is_alive,
        "ended": ended,
        "labelled": done.get("labelled"),
        "empty": done.get("empty"),
        "objects": sum(done["objects"].values()) if done else None,
        "pending": done.get("pending"),
        "frames": done.get("inferred_frames"),
        "seconds": seconds,
        "frames_per_second": speed.get("frames_per_second"),
        "rows_per_hour": settled * HOUR_S / seconds if seconds else None,
        "held_back": done.get("held_back", {}),
        "stopped_by": done.get("stopped_by"),
    }
