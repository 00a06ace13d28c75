"""The worst rows and a random sample are the same ones in whatever order rows come, and few at any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.picks import SHELVES, Picks, spread
from labels import make_class, make_instance

CAR = make_class()
MOST_HELD = sum(shelf.size * (len(SHELVES) - i) for i, shelf in enumerate(SHELVES))


def picks_of(scores: dict[str, list[float]], seed: str = "run") -> Picks:
    """Rows by name, each with an object a score."""
    picks = Picks(seed)
    for name, of_row in scores.items():
        picks.offer(name, [make_instance(CAR, score) for score in of_row])
    return picks


@given(st.permutations(range(60)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    rows = {f"row-{i}": [i / 100] * (i % 4) for i in range(60)}
    shuffled = {f"row-{i}": rows[f"row-{i}"] for i in order}
    assert picks_of(shuffled).chosen() == picks_of(rows).chosen()


def test_each_row_is_shown_once_and_full_shelves_stay_full() -> None:
    picks = picks_of({f"row-{i}": [0.9 - i / 1000] * (i % 5) for i in range(500)})
    shown = dict(picks.chosen())
    assert {title: len(names) for title, names in shown.items()} == {
        "Least certain": 6,
        "Most objects": 3,
        "Nothing found": 3,
        "At random, of the rest": 9,
    }
    every = [name for names in shown.values() for name in names]
    assert len(every) == len(set(every))
    assert len(picks.held) <= MOST_HELD


def test_the_least_certain_row_is_the_one_with_the_lowest_score_on_any_object() -> None:
    shelves = dict(picks_of({"sure": [0.9], "mixed": [0.95, 0.4], "empty": []}).chosen())
    assert shelves["Least certain"] == ["mixed", "sure"]
    assert shelves["Nothing found"] == ["empty"]


def test_tracks_are_ranked_by_the_frames_they_are_on() -> None:
    picks = Picks("run")
    for length in range(1, 12):
        picks.offer(f"video-{length:02}", [make_instance(CAR, *[0.5 + length / 100] * length)])
    assert dict(picks.chosen())["Longest tracks"] == ["video-11", "video-10", "video-09"]


def test_another_run_draws_another_sample() -> None:
    rows = {f"row-{i}": [0.5] for i in range(200)}
    title = SHELVES[-1].title
    assert dict(picks_of(rows, "one").chosen())[title] != dict(picks_of(rows, "two").chosen())[title]


@given(st.integers(1, 300), st.integers(2, 12))
def test_frames_of_a_strip_are_spread_from_first_to_last(count: int, most: int) -> None:
    frames = range(7, 7 + count)
    chosen = spread(frames, most)
    assert len(chosen) == min(count, most) == len(set(chosen))
    assert (chosen[0], chosen[-1]) == (7, 6 + count)
