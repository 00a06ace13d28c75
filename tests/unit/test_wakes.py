"""What webhooks asked for: nothing that was accepted is lost, nothing that comes again adds work."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from autolabel.database import Database, SqliteFile
from autolabel.errors import PermanentDiskError
from autolabel.schema import INBOX
from autolabel.wakes import KEEP_CALLS_S, Hint, Wake, Wakes
from torture import scratch

HINTS = [Hint("p", "stage"), Hint("p", "other stage"), Hint("q", "stage"), Hint("", "dataset/d")]


def opened(folder: Path, now_s: list[float]) -> Wakes:
    return Wakes(Database(folder / "ledger.sqlite"), lambda: now_s[0])


class History(RuleBasedStateMachine):
    """Calls, runs, delays and crashes in any order, held against counts of what was accepted and what runs served.

    A crash is a close without a word: every method is one transaction.
    """

    taken = Bundle("taken")
    """Wakes that a dispatcher has read, at any time before."""

    @initialize()
    def begin(self) -> None:
        self._folder = scratch.folder("wakes ")
        self._now_s = [1000.0]
        self._wakes = opened(Path(self._folder.name), self._now_s)
        self._asked: Counter[Hint] = Counter()
        self._served: Counter[Hint] = Counter()
        self._later: dict[Hint, float] = {}
        self._known: dict[str, Hint] = {}

    def teardown(self) -> None:
        self._wakes.close()
        self._folder.cleanup()

    @rule(digest=st.sampled_from([f"call {i}" for i in range(12)]), hint=st.sampled_from(HINTS))
    def accept(self, digest: str, hint: Hint) -> None:
        is_new = digest not in self._known
        assert self._wakes.accept(digest, hint) is is_new
        self._known.setdefault(digest, hint)
        self._asked[hint] += is_new

    @rule(hint=st.sampled_from(HINTS))
    def request(self, hint: Hint) -> None:
        self._wakes.request(hint)
        self._asked[hint] += 1

    @rule(target=taken)
    def take(self) -> object:
        return multiple(*self._wakes.owed())

    @rule(wake=taken)
    def settle(self, wake: Wake) -> None:
        """Late, twice, or after one that came later: by any dispatcher that once took it."""
        self._wakes.settle(wake)
        if wake.requested > self._served[wake.hint]:
            self._served[wake.hint] = wake.requested
            self._later.pop(wake.hint, None)

    @rule(wake=taken, delay_s=st.sampled_from([0.0, 5.0, 60.0]))
    def put_off(self, wake: Wake, delay_s: float) -> None:
        """Late too: what another dispatcher has settled meanwhile is not put off, nor is what comes after it."""
        self._wakes.put_off(wake, delay_s)
        if wake.requested > self._served[wake.hint]:
            self._later[wake.hint] = self._now_s[0] + delay_s

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self._now_s[0] += seconds

    @rule()
    def crash(self) -> None:
        self._wakes.close()
        self._wakes = opened(Path(self._folder.name), self._now_s)

    @invariant()
    def what_is_owed_is_what_was_asked_and_not_served(self) -> None:
        owed = {hint: asked for hint, asked in self._asked.items() if asked > self._served[hint]}
        due = {hint: asked for hint, asked in owed.items() if self._later.get(hint, 0.0) <= self._now_s[0]}
        assert {wake.hint: wake.requested for wake in self._wakes.owed()} == due
        assert self._wakes.depth() == len(owed)


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_what_came_first_is_owed_first(tmp_path: Path) -> None:
    now_s = [0.0]
    with closing(opened(tmp_path, now_s)) as wakes:
        for number, hint in enumerate(HINTS):
            now_s[0] += 1
            wakes.accept(str(number), hint)
        assert [wake.hint for wake in wakes.owed()] == HINTS


@pytest.mark.parametrize(("age_s", "known"), [(KEEP_CALLS_S, 2), (KEEP_CALLS_S + 1, 1)])
def test_a_call_is_known_for_longer_than_its_signature_holds_and_then_forgotten(
    tmp_path: Path, age_s: float, known: int
) -> None:
    now_s = [0.0]
    with closing(opened(tmp_path, now_s)) as wakes:
        wakes.accept("old", HINTS[0])
        now_s[0] = age_s
        wakes.accept("new", HINTS[0])
        wakes.settle(wakes.owed()[0])
    assert rows(tmp_path) == known


def test_what_was_settled_is_not_put_off_by_a_dispatcher_that_comes_late(tmp_path: Path) -> None:
    with closing(opened(tmp_path, [0.0])) as wakes:
        wakes.accept("first", HINTS[0])
        (wake,) = wakes.owed()
        wakes.settle(wake)
        wakes.put_off(wake, 900.0)
        wakes.accept("second", HINTS[0])
        assert [owed.hint for owed in wakes.owed()] == [HINTS[0]]


def rows(folder: Path) -> int:
    with closing(Database(folder / "ledger.sqlite")) as database, database.read() as db:
        return int(db.scalar(sa.select(sa.func.count()).select_from(INBOX)) or 0)


def test_a_ledger_that_cannot_be_written_fails_the_check(tmp_path: Path) -> None:
    class Full(SqliteFile):
        def check_room(self) -> None:
            raise PermanentDiskError("the disk is full")

    database = Database(Full(tmp_path / "ledger.sqlite"))
    with closing(Wakes(database, lambda: 0.0)) as wakes, pytest.raises(PermanentDiskError):
        wakes.check()
