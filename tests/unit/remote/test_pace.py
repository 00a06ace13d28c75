"""How fast requests leave, under a clock that only sleeping moves."""

from __future__ import annotations

import pytest

from autolabel.errors import TransientOutageError
from autolabel.remote.pace import BURST_S, FAILURES, LEAST_PER_S, MOST_PER_S, START_PER_S, Circuit, Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def paced(clock: Clock) -> Pace:
    return Pace(clock, clock.sleep)


def test_requests_leave_at_the_rate_after_a_first_burst() -> None:
    clock = Clock()
    pace = paced(clock)
    for _ in range(round(START_PER_S * (BURST_S + 3))):
        pace.take()
    assert clock.now_s == pytest.approx(1003, abs=0.02)


def test_each_refusal_halves_the_rate_and_answers_win_it_back() -> None:
    clock = Clock()
    pace = paced(clock)
    for _ in range(3):
        clock.sleep(2)
        pace.slower()
    assert pace.rate_per_s == START_PER_S / 8
    for _ in range(50):
        pace.faster()
    assert pace.rate_per_s == pytest.approx(START_PER_S / 8 + 5)


def test_refusals_of_one_moment_are_one_event_and_leave_no_burst() -> None:
    clock = Clock()
    pace = paced(clock)
    for _ in range(10):
        pace.slower()
    assert pace.rate_per_s == START_PER_S / 2
    for _ in range(round(START_PER_S)):
        pace.take()
    assert clock.now_s == pytest.approx(1002, abs=0.02)


def test_the_rate_stays_within_its_bounds() -> None:
    clock = Clock()
    pace = paced(clock)
    for _ in range(10_000):
        pace.faster()
    assert pace.rate_per_s == MOST_PER_S
    for _ in range(100):
        clock.sleep(2)
        pace.slower()
    assert pace.rate_per_s == LEAST_PER_S


def test_a_circuit_opens_after_failures_in_succession_and_stays_open() -> None:
    circuit = Circuit()
    for _ in range(FAILURES - 1):
        circuit.failed()
    circuit.answered()
    for _ in range(FAILURES):
        circuit.check()
        circuit.failed()
    circuit.answered()
    with pytest.raises(TransientOutageError):
        circuit.check()
