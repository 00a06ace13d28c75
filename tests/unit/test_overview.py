from __future__ import annotations

from contextlib import closing
from pathlib import Path

from autolabel.overview import Overview
from autolabel.states import Job, Move, State
from ledgers import open_database, open_ledger

JOB = Job("project", "recipe", "branch")


def test_states_are_counted_by_reason(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.start_run("run", JOB, "Title", {})
    ledger.claim(JOB, "run", ["a", "b"], {})
    ledger.move(JOB, "run", [Move("b", State.LEFT_ALONE, "assigned")])
    with closing(Overview(open_database(tmp_path))) as overview:
        counted = [(row["state"], row["reason"], row["rows"]) for row in overview.counts()]
    assert counted == [("leased", None, 1), ("left_alone", "assigned", 1)]
