"""Which runs in a row are a reason to worry."""

from __future__ import annotations

from typing import Any

import pytest

from autolabel.core.endings import Ending, worrying

SUMMARY: dict[str, Any] = {
    "eligible": 5,
    "labelled": 0,
    "empty": 0,
    "elsewhere": {},
    "set_aside": {},
    "held_back": {},
    "pending": 5,
    "stopped_by": None,
}


def ended(run_id: str = "run", **changes: Any) -> Ending:
    return Ending(run_id, SUMMARY | changes)


def test_three_runs_in_a_row_that_wrote_none_of_their_rows_are_one() -> None:
    runs = [ended("c"), ended("b"), ended("a"), ended("older")]
    assert [run.run_id for run in worrying(runs)] == ["c", "b", "a"]
    assert worrying(runs[:2]) == []


@pytest.mark.parametrize(
    "idle",
    [
        ended(eligible=0),
        ended(elsewhere={"another": 5}),
        ended(held_back={"max_objects_a_day": 5}),
        Ending("of an older release", {"labelled": 0}),
    ],
)
def test_runs_without_rows_for_themselves_do_not_count_either_way(idle: Ending) -> None:
    assert len(worrying([ended(), idle, ended(), idle, ended()])) == 3
    assert worrying([idle] * 9) == []


@pytest.mark.parametrize("wrote", [ended(labelled=1), Ending("killed", None, wrote=True)])
def test_one_that_wrote_something_ends_the_row(wrote: Ending) -> None:
    assert worrying([ended(), ended(), wrote, ended(), ended()]) == []


def test_a_run_that_was_killed_before_it_wrote_anything_counts() -> None:
    assert [run.why for run in worrying([Ending("run", None)] * 3)] == ["killed"] * 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stopped_by": "503"}, "503"),
        ({"empty": 5}, "nothing found: 5"),
        ({"set_aside": {"crash": 2}, "held_back": {"max_minutes": 3}}, "crash: 2, max_minutes: 3"),
        ({}, "waiting: 5"),
    ],
)
def test_a_run_says_why_it_wrote_nothing(changes: dict[str, Any], why: str) -> None:
    assert ended(**changes).why == why
