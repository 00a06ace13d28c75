"""The arithmetic of the limits: exact, and nothing waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.limits import Limit, Room, rows_within_cap

COUNTS = st.integers(0, 200)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100), COUNTS)
def test_a_cap_is_never_passed_except_by_one_row_that_is_alone(objects: list[int], cap: int, written: int) -> None:
    taken = objects[: rows_within_cap(objects, cap, written)]
    assert written + sum(taken) <= cap or not taken or (written == 0 and len(taken) == 1)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100), COUNTS)
def test_a_cap_stops_at_the_first_row_that_does_not_fit(objects: list[int], cap: int, written: int) -> None:
    room = rows_within_cap(objects, cap, written)
    assert room == len(objects) or written + sum(objects[: room + 1]) > cap


@given(st.lists(st.integers(1, 300), min_size=1), st.integers(1, 100))
def test_day_after_day_every_row_is_written(objects: list[int], cap: int) -> None:
    days = 0
    while objects:
        objects = objects[rows_within_cap(objects, cap, 0) :]
        days += 1
        assert days <= 300 * 100


@given(COUNTS, st.integers(1, 100), COUNTS)
def test_a_brake_lets_rows_through_up_to_what_may_wait(rows: int, most: int, waiting: int) -> None:
    held = Room(most, waiting).hold_back(rows)
    taken = rows - sum(held.values())
    assert 0 <= taken <= rows
    assert waiting + taken <= max(most, waiting)
    assert waiting + taken == most or taken == (0 if waiting > most else rows)


@given(COUNTS, st.integers(1, 100), COUNTS, st.integers(1, 100), COUNTS)
def test_what_several_limits_hold_back_is_counted_once(
    rows: int, most: int, waiting: int, cap: int, written: int
) -> None:
    held = Room(most, waiting, "Annotate", cap, written).hold_back(rows)
    assert sum(held.values()) <= rows
    assert all(count > 0 for count in held.values())
    if written >= cap:
        assert sum(held.values()) == rows


def test_without_limits_nothing_is_held_back() -> None:
    assert Room(waiting=9, written=9).hold_back(5) == {}


def test_a_limit_says_why_in_figures() -> None:
    room = Room(500, 500, "Annotate", 1000, 1000)
    assert room.explain(Limit.MAX_WAITING) == "brake: 500 pre-labelled rows wait at Annotate, at most 500 may"
    assert "1000 of 1000 objects" in room.explain(Limit.MAX_OBJECTS_A_DAY)
