from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autolabel.core.sampling import ROUNDING_S, sample, sample_count

GAPS_S = st.lists(st.floats(0.001, 3.0), max_size=200)
RATES = st.floats(0.05, 60.0)


def times(gaps_s: list[float]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(gaps_s)])


def test_one_a_second_of_a_constant_rate() -> None:
    assert sample(np.arange(250) / 25, 1.0) == [0, 25, 50, 75, 100, 125, 150, 175, 200, 225]


def test_at_a_rate_that_is_no_whole_number_the_frame_on_show_is_taken() -> None:
    assert sample(np.arange(120) * 1001 / 30000, 1.0) == [0, 29, 59, 89]


def test_a_frame_that_stays_on_show_is_taken_once_and_one_between_ticks_not_at_all() -> None:
    assert sample(np.array([0.0, 0.4, 4.2, 4.6, 5.1]), 1.0) == [0, 1, 3]


@given(GAPS_S)
def test_native_takes_every_frame(gaps_s: list[float]) -> None:
    assert sample(times(gaps_s), None) == list(range(len(gaps_s) + 1))


@given(GAPS_S, RATES)
def test_samples_begin_with_the_first_frame_rise_and_are_on_show_at_a_tick(gaps_s: list[float], rate: float) -> None:
    times_s = times(gaps_s)
    found = sample(times_s, rate)
    assert found[0] == 0
    assert found == sorted(set(found))
    ends_s = np.append(times_s[1:], np.inf)[found]
    ticks_s = np.ceil((times_s[found] - 1e-5) * rate) / rate
    assert (ticks_s < ends_s + 1e-5).all()


@given(GAPS_S, RATES)
def test_there_are_no_more_samples_than_ticks(gaps_s: list[float], rate: float) -> None:
    times_s = times(gaps_s)
    assert len(sample(times_s, rate)) <= times_s[-1] * rate + 2


@given(
    st.lists(st.integers(1, 3000), max_size=60), st.sampled_from([0.05, 0.3, 1.0, 2.5, 7.0, 24.0, 30000 / 1001, 60.0])
)
def test_exactly_the_frames_on_show_at_the_listed_ticks_are_taken(gaps_ms: list[int], rate: float) -> None:
    times_s = np.cumsum([0, *gaps_ms]) / 1000
    ticks_s = np.arange(int((times_s[-1] + ROUNDING_S) * rate) + 1) / rate
    on_show = np.searchsorted(times_s, ticks_s + ROUNDING_S, side="right") - 1
    assert sample(times_s, rate) == np.unique(on_show).tolist()


@pytest.mark.parametrize("last_s", [1e9, 1e11, 1e18])
def test_one_absurd_time_stamp_costs_one_frame_and_no_memory(last_s: float) -> None:
    assert sample(np.append(np.arange(19) / 25, last_s), 1.0) == [0, 18, 19]


@pytest.mark.parametrize(
    ("frames", "fps", "rate", "count"), [(250, 25, 1.0, 10), (250, 25, None, 250), (7, None, 1.0, 7)]
)
def test_samples_are_counted_before_the_file_is_there(
    frames: int, fps: float | None, rate: float | None, count: int
) -> None:
    assert sample_count(frames, fps, rate) == count


def test_no_frames_give_no_samples() -> None:
    assert sample(np.array([]), 1.0) == []
