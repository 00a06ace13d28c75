"""The wire fails in every way that it can, on every request that a push makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolabel.errors import TransientLedgerError
from torture_http import CALLS, PASSING, ROWS_A_RUN, bench, expired_urls, http_faults

RUNS = 10
URLS = 60
HEALED = ("429", "429 in seconds", "500", "502", "503", "504", "reset before", "reset after", "cut", "no JSON")
"""Faults that cost a run nothing but time."""
BEFORE = {"create": [], "save": ["label_row_created"], "copy": ["label_row_created", "label_row_saved"]}
"""What a run changed before a call."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_fault_of_the_wire_labels_stand_once_and_peoples_work_as_it_was(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}, {RUNS} runs")
    assert http_faults(tmp_path, seed, RUNS) == []


@pytest.mark.parametrize("call", ["create", "save", "copy"])
def test_a_fault_on_any_write_changes_nothing_even_for_the_run_that_meets_it(call: str, tmp_path: Path) -> None:
    with bench(tmp_path, len(HEALED) * ROWS_A_RUN) as made:
        people = made.main_rows()
        for turn, name in enumerate(HEALED, 1):
            made.admin("POST", "faults", [PASSING[name] | {"match": CALLS[call], "times": 1}])
            stopped = made.push(limit=ROWS_A_RUN)
            (fault,) = made.admin("GET", "faults")
            made.admin("DELETE", "faults")
            ends = (stopped, fault["met"], made.settled(), made.violations(people))
            assert ends == (None, 1, turn * ROWS_A_RUN, []), name


@pytest.mark.parametrize("call", ["create", "save", "copy"])
def test_a_run_whose_locks_are_lost_repeats_no_write_and_the_next_one_finishes(call: str, tmp_path: Path) -> None:
    with bench(tmp_path, ROWS_A_RUN) as made:
        made.admin("POST", "faults", [PASSING["503"] | {"match": CALLS[call], "times": 1}])

        def lost_with_the_fault() -> None:
            if made.admin("GET", "faults")[0]["met"]:
                raise TransientLedgerError("the locks of this run are lost")

        people, sent = made.main_rows(), len(made.writes())
        stopped = made.push(limit=ROWS_A_RUN, guard=lost_with_the_fault)
        assert isinstance(stopped, TransientLedgerError)
        assert made.writes()[sent:] == BEFORE[call]
        assert (made.push(limit=ROWS_A_RUN), made.settled(), made.violations(people)) == (None, ROWS_A_RUN, [])


def test_urls_that_run_out_at_any_moment_cost_no_row(tmp_path: Path) -> None:
    print(f"seed 1, {URLS} URLs")
    assert expired_urls(tmp_path, 1, URLS) == []
