"""What the dispatcher runs, in which order, and what becomes of the wakes: with a child that only tells its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autolabel.database import Database
from autolabel.errors import Interrupted, TransientLedgerError
from autolabel.service.dispatch import FIRST_DELAY_S, LONGEST_DELAY_S, Dispatcher, Outcome, Verdict
from autolabel.wakes import Hint, Wake, Wakes

A, B, C = (f"{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")
DONE, AGAIN, LATER, BUSY = map(Outcome, Verdict)
DAY_S = 86400.0


@dataclass
class FakeRunner:
    """Ends hints as it is told to, by project or place: `DONE` where nothing is said."""

    ends: dict[str, Outcome] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    pid: int | None = None

    def ask(self, hint: Hint) -> Outcome:
        self.pid = 7
        self.asked.append(hint.project_hash or hint.place)
        self.meanwhile()
        return self.ends.get(self.asked[-1], DONE)

    def close(self) -> None:
        self.pid = None


class Ledger(Wakes):
    is_locked = False

    def owed(self) -> list[Wake]:
        if self.is_locked:
            raise TransientLedgerError("another process keeps the ledger locked")
        return super().owed()


def until(has_come: Callable[[], object]) -> None:
    gives_up_s = time.monotonic() + 30
    while not has_come():
        assert time.monotonic() < gives_up_s
        time.sleep(0.01)


class Desk:
    """A dispatcher with a ledger, a fake runner, and a clock that goes on by a second at each look."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.wakes = Ledger(Database(folder / "ledger.sqlite"), self.clock)
        self.runner = FakeRunner()
        self.stopping = threading.Event()
        self.dispatcher = Dispatcher(self.wakes, self.runner, [A, B, C], 600.0, self.stopping, self.clock)

    def clock(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def ask(self, *places: str) -> None:
        """`project/stage`, or a place alone."""
        for place in places:
            project_hash, _, stage = place.partition("/")
            self.wakes.request(Hint(project_hash, stage) if project_hash in (A, B, C) else Hint("", place))

    def steps(self, most: int = 50) -> list[str]:
        """Until nothing is due; whom the runner was asked for."""
        self.runner.asked.clear()
        while most and self.dispatcher.step():
            most -= 1
        return list(self.runner.asked)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.wakes.close()


def test_many_hints_for_one_project_are_one_run_whatever_stages_they_name(desk: Desk) -> None:
    desk.ask(f"{A}/first", f"{A}/second", f"{A}/first", f"{A}/first")
    assert desk.steps() == [A]
    assert desk.wakes.depth() == 0


def test_what_is_asked_for_while_a_run_is_under_way_is_one_more_run(desk: Desk) -> None:
    def ask_twice() -> None:
        if len(desk.runner.asked) == 1:
            desk.ask(f"{A}/first", f"{A}/second")

    desk.ask(f"{A}/first")
    desk.runner.meanwhile = ask_twice
    assert desk.steps() == [A, A]


def test_the_longest_owed_project_comes_first(desk: Desk) -> None:
    desk.ask(f"{B}/stage", f"{A}/stage", f"{C}/stage")
    assert desk.steps() == [B, A, C]


def test_a_project_that_is_asked_for_all_the_time_does_not_starve_the_others(desk: Desk) -> None:
    desk.ask(f"{A}/stage", f"{B}/stage", f"{C}/stage")
    desk.runner.meanwhile = lambda: desk.ask(f"{C}/stage", f"{B}/stage", f"{A}/stage")
    asked = desk.steps(most=9)
    assert asked[:3] == asked[3:6] == asked[6:]
    assert set(asked) == {A, B, C}


def test_places_that_are_asked_for_all_the_time_do_not_starve_the_projects(desk: Desk) -> None:
    desk.ask("dataset/one", "folder/two", f"{A}/stage", f"{B}/stage")
    desk.runner.meanwhile = lambda: desk.ask("dataset/one", "folder/two")
    asked = desk.steps(most=6)
    assert asked[:3] == ["dataset/one", A, B]
    assert set(asked[3:]) == {"dataset/one", "folder/two"}


def test_a_run_whose_time_was_up_goes_on_after_the_other_projects(desk: Desk) -> None:
    desk.ask(f"{A}/stage", f"{B}/stage")
    desk.runner.ends = {A: AGAIN}
    assert desk.steps(most=4) == [A, B, A, A]
    desk.runner.ends = {}
    assert desk.steps() == [A]
    assert desk.wakes.depth() == 0


@pytest.mark.parametrize("failing", [LATER, BUSY])
def test_a_project_that_fails_stops_no_other(desk: Desk, failing: Outcome) -> None:
    desk.ask(f"{A}/stage", f"{B}/stage")
    desk.runner.ends = {A: failing}
    assert desk.steps() == [A, B]
    desk.ask(f"{B}/stage")
    assert desk.steps() == [B]


def test_what_failed_for_now_stays_owed_and_is_tried_after_ever_longer_waits(desk: Desk) -> None:
    desk.ask(f"{A}/stage")
    desk.runner.ends = {A: LATER}
    waits_s = []
    for _ in range(8):
        assert desk.steps() == [A]
        began_s = desk.now_s
        while not desk.steps():
            desk.now_s += 5
        waits_s.append(desk.now_s - began_s)
        desk.ask(f"{A}/stage", f"{A}/another")  # however often somebody asks meanwhile
        desk.now_s += DAY_S
    assert waits_s[0] == pytest.approx(FIRST_DELAY_S, abs=15)
    assert waits_s == sorted(waits_s)
    assert waits_s[-1] == pytest.approx(LONGEST_DELAY_S, abs=15)


def test_a_project_that_another_run_holds_is_tried_again_soon_however_long_that_run_takes(desk: Desk) -> None:
    desk.ask(f"{A}/stage")
    desk.runner.ends = {A: BUSY}
    for _ in range(8):
        assert desk.steps() == [A]
        desk.now_s += FIRST_DELAY_S
    desk.runner.ends = {}
    assert (desk.steps(), desk.wakes.depth()) == ([A], 0)


def test_hints_do_not_shorten_the_wait_of_a_project_that_failed_for_now(desk: Desk) -> None:
    desk.ask(f"{A}/stage")
    desk.runner.ends = {A: LATER}
    assert desk.steps() == [A]
    desk.ask(f"{A}/stage", f"{A}/another")
    assert desk.steps() == []
    desk.now_s += FIRST_DELAY_S
    desk.runner.ends = {}
    assert (desk.steps(), desk.wakes.depth()) == ([A], 0)


def test_a_wake_from_before_a_crash_is_found_in_the_ledger(desk: Desk, tmp_path: Path) -> None:
    desk.ask(f"{A}/stage")
    desk.runner.meanwhile = lambda: (_ for _ in ()).throw(Interrupted)
    with suppress(Interrupted):
        desk.dispatcher.step()
    desk.wakes.close()
    assert Desk(tmp_path).steps() == [A]


def test_a_project_that_is_not_allowed_any_more_is_not_run_and_its_wake_goes_away(desk: Desk) -> None:
    desk.wakes.request(Hint("dddddddd-0000-0000-0000-000000000000", "stage"))
    assert desk.steps() == []
    assert desk.wakes.depth() == 0


def test_a_place_is_looked_up_and_each_project_that_holds_it_is_run_once(desk: Desk) -> None:
    desk.runner.ends = {"dataset/one": Outcome(Verdict.DONE, projects=(A, B))}
    desk.ask("dataset/one", f"{B}/stage")
    assert desk.steps() == ["dataset/one", B, A]
    assert desk.wakes.depth() == 0


def test_a_place_that_no_project_holds_is_settled(desk: Desk) -> None:
    desk.ask("folder/unknown")
    assert (desk.steps(), desk.wakes.depth()) == (["folder/unknown"], 0)


def test_the_process_ends_after_a_while_without_work_and_not_before(desk: Desk) -> None:
    desk.ask(f"{A}/stage")
    desk.steps()
    desk.now_s += 500
    assert not desk.dispatcher.step()
    assert desk.dispatcher.state() == {"running": None, "since_s": None, "child_pid": 7, "queued": 0}
    desk.now_s += 100
    assert not desk.dispatcher.step()
    assert desk.dispatcher.state()["child_pid"] is None


def test_the_state_names_the_project_that_is_run_and_how_much_is_owed(desk: Desk) -> None:
    states = []
    desk.ask(f"{A}/stage", f"{B}/stage")
    desk.runner.meanwhile = lambda: states.append(desk.dispatcher.state())
    desk.steps()
    assert [(state["running"], state["child_pid"], state["queued"]) for state in states] == [(A, 7, 2), (B, 7, 1)]
    assert all(1000 < state["since_s"] < desk.now_s for state in states)


def test_the_thread_serves_at_once_what_it_is_woken_for_and_ends_with_its_block(desk: Desk) -> None:
    served = threading.Event()
    desk.runner.meanwhile = served.set
    with desk.dispatcher as dispatcher:
        assert dispatcher.is_ready() is None
        desk.ask(f"{A}/stage")
        dispatcher.wake()
        assert served.wait(30)
    assert desk.stopping.is_set()
    assert desk.runner.pid is None
    assert desk.dispatcher.is_ready() == "no thread serves what is owed"


def test_a_run_that_takes_half_a_day_is_told_as_trouble_until_it_ends(desk: Desk) -> None:
    told: list[str | None] = []

    def take_long() -> None:
        for hours in (11, 2):
            desk.now_s += 3600 * hours
            told.append(desk.dispatcher.is_ready())

    desk.runner.meanwhile = take_long
    desk.ask(f"{A}/stage")
    with desk.dispatcher as dispatcher:
        until(lambda: desk.wakes.depth() == 0)
        assert dispatcher.is_ready() is None
    assert told == [None, "a run has been under way for more than 12 hours"]


def test_a_ledger_that_is_locked_is_told_and_outlived(desk: Desk) -> None:
    with desk.dispatcher as dispatcher:
        desk.wakes.is_locked = True
        until(lambda: dispatcher.wake() or dispatcher.is_ready() == "another process keeps the ledger locked")
        desk.wakes.is_locked = False
        until(lambda: dispatcher.wake() or dispatcher.is_ready() is None)
