"""T8: the ledger against a model of a few dictionaries, through any claims, steps, deaths and restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from autolabel.core.detections import FrameLabels
from autolabel.database import Database
from autolabel.errors import PermanentLedgerError
from autolabel.ledger import Ledger
from autolabel.states import ENDS, SETTLED, Chunk, Job, Move, Record, State
from history import STEPS
from ledgers import open_database
from torture import scratch

STEPS_AN_EXAMPLE = 50
LEASE_S = 10.0
JOB = Job("project", "recipe", "main")
FRAMES = [FrameLabels(0, 10, 10, (), {}, "digest")]

keys = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
runs = st.sampled_from(("run-1", "run-2", "run-3"))
states = st.sampled_from([state for state in State if state != State.FOUND])


@dataclass
class Owner:
    """A run: until when its rows are its own, if it lives."""

    lease_until_s: float
    is_alive: bool = True
    is_finished: bool = False


@dataclass
class Model:
    now_s: float = 0.0
    rows: dict[str, Record] = field(default_factory=dict)
    runs: dict[str, Owner] = field(default_factory=dict)
    inferred: set[str] = field(default_factory=set)

    def is_held(self, record: Record, run_id: str) -> bool:
        owner = self.runs[record.run_id]
        lives = owner.is_alive and not owner.is_finished and owner.lease_until_s > self.now_s
        return record.run_id != run_id and lives

    def is_free(self, key: str, run_id: str, seen: Mapping[str, Record]) -> bool:
        record = self.rows.get(key)
        if record is None:
            return True
        return record == seen.get(key) if record.state in SETTLED else not self.is_held(record, run_id)

    def taken_up(self, key: str, run_id: str) -> Record:
        record = self.rows.get(key)
        if record is None:
            return Record(State.FOUND, None, 0, run_id)
        if record.state in ENDS:
            return replace(record, state=State.FOUND, reason=None, attempts=0, run_id=run_id)
        if record.state == State.LEASED:
            return replace(record, state=State.FOUND, reason=None, run_id=run_id)
        return replace(record, run_id=run_id)


def _can(record: Record, state: State) -> bool:
    return state.value in STEPS[record.state.value]


class LedgerMachine(RuleBasedStateMachine):
    """Every rule does the same to the ledger and to the model; `held` is an old look at the records."""

    open_database = staticmethod(open_database)

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch.folder("torture T8 ")
        self.model = Model()
        self.held: Mapping[str, Record] = {}
        self.ledger = self._open()

    def _open(self) -> Ledger:
        database = self.open_database(Path(self.folder.name))
        return Ledger(database, lambda: self.model.now_s, lambda run: self.model.runs[run].is_alive, LEASE_S)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def _renew(self, run_id: str) -> None:
        self.model.runs[run_id].lease_until_s = self.model.now_s + LEASE_S

    @rule(run_id=runs)
    def start(self, run_id: str) -> None:
        if run_id not in self.model.runs:
            self.ledger.start_run(run_id, JOB, "Title", {})
            self.model.runs[run_id] = Owner(self.model.now_s + LEASE_S)

    @rule(run_id=runs, dies=st.booleans())
    def end(self, run_id: str, dies: bool) -> None:
        if run_id not in self.model.runs:
            return
        if dies:
            self.model.runs[run_id].is_alive = False
        else:
            self.ledger.finish_run(run_id, {})
            self.model.runs[run_id].is_finished = True

    @rule(seconds=st.sampled_from((1.0, LEASE_S, 3 * LEASE_S)))
    def wait(self, seconds: float) -> None:
        self.model.now_s += seconds

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = self._open()

    @rule()
    def look(self) -> None:
        self.held = self.ledger.records(JOB)

    @precondition(lambda self: self.model.runs)
    @rule(wanted=keys, run_id=runs, is_old=st.booleans())
    def claim(self, wanted: list[str], run_id: str, is_old: bool) -> None:
        if run_id not in self.model.runs:
            return
        seen = self.held if is_old else dict(self.model.rows)
        free = [key for key in wanted if self.model.is_free(key, run_id, seen)]
        if any(key in self.model.rows and self.model.rows[key].state == State.DONE for key in free):
            self._refuses(lambda: self.ledger.claim(JOB, run_id, wanted, seen))
            return
        claims = self.ledger.claim(JOB, run_id, wanted, seen)
        for key in free:
            record = self.model.taken_up(key, run_id)
            if record.state == State.FOUND:
                record = replace(record, state=State.INFERRED if key in self.model.inferred else State.LEASED)
            self.model.rows[key] = record
        self._renew(run_id)
        assert set(claims.taken) == set(free)
        assert set(claims.elsewhere) == set(wanted) - set(free)

    @precondition(lambda self: self.model.runs)
    @rule(wanted=keys, run_id=runs, is_old=st.booleans())
    def leave(self, wanted: list[str], run_id: str, is_old: bool) -> None:
        if run_id not in self.model.runs:
            return
        seen = self.held if is_old else dict(self.model.rows)
        free = [key for key in wanted if self.model.is_free(key, run_id, seen)]
        assert self.ledger.leave(JOB, run_id, dict.fromkeys(wanted, "assigned"), seen) == set(free)
        for key in free:
            record = self.model.taken_up(key, run_id)
            self.model.rows[key] = replace(record, state=State.LEFT_ALONE, reason="assigned")
        self._renew(run_id)

    @precondition(lambda self: self.model.rows)
    @rule(wanted=keys, state=states, run_id=runs)
    def step(self, wanted: list[str], state: State, run_id: str) -> None:
        if run_id not in self.model.runs:
            return
        known = [key for key in wanted if key in self.model.rows]
        mine = [key for key in known if self.model.rows[key].run_id == run_id]
        moves = [Move(key, state, intent_digest="digest" if state == State.INTENT else None) for key in known]
        if not all(_can(self.model.rows[key], state) for key in mine):
            self._refuses(lambda: self.ledger.move(JOB, run_id, moves))
            return
        assert self.ledger.move(JOB, run_id, moves) == set(mine)
        for key in mine:
            old = self.model.rows[key]
            digest = "digest" if state == State.INTENT else old.intent_digest
            self.model.rows[key] = replace(old, state=state, reason=None, intent_digest=digest)
        self._renew(run_id)

    @precondition(lambda self: self.model.rows)
    @rule(wanted=keys, run_id=runs, by=st.sampled_from((1, -1)))
    def count(self, wanted: list[str], run_id: str, by: int) -> None:
        if run_id not in self.model.runs:
            return
        mine = [key for key in wanted if key in self.model.rows and self.model.rows[key].run_id == run_id]
        (self.ledger.start_attempt if by > 0 else self.ledger.give_back_attempt)(JOB, run_id, wanted)
        for key in mine:
            old = self.model.rows[key]
            self.model.rows[key] = replace(old, attempts=old.attempts + by)
        self._renew(run_id)

    @precondition(lambda self: self.model.rows)
    @rule(key=st.sampled_from("abcd"), run_id=runs, ends=st.booleans())
    def infer(self, key: str, run_id: str, ends: bool) -> None:
        if run_id not in self.model.runs or key not in self.model.rows:
            return
        old, chunks = self.model.rows[key], [Chunk(key, FRAMES, ends)]
        if old.run_id == run_id and ends and not _can(old, State.INFERRED):
            self._refuses(lambda: self.ledger.put_detections(JOB, run_id, chunks))
            return
        kept = self.ledger.put_detections(JOB, run_id, chunks)
        self._renew(run_id)
        assert kept == ({key} if old.run_id == run_id else set())
        if kept:
            (self.model.inferred.add if ends else self.model.inferred.discard)(key)
            state = State.INFERRED if ends else old.state
            self.model.rows[key] = replace(old, attempts=0, state=state, reason=None if ends else old.reason)

    def _refuses(self, step: Callable[[], object]) -> None:
        try:
            step()
        except PermanentLedgerError:
            return
        raise AssertionError("a step outside the table was taken")

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        assert self.ledger.records(JOB) == self.model.rows
        assert self.ledger.stored(JOB.recipe_id) == self.model.inferred


def compare(seed: int, amount: int, opening: Callable[[Path], Database] = open_database) -> list[str]:
    """`amount` sequences of up to 50 steps, each on a database that `opening` makes for its folder."""
    own = {"open_database": staticmethod(opening)}
    machine = hypothesis.seed(seed)(type("SeededLedgerMachine", (LedgerMachine,), own))
    budget = settings(
        max_examples=amount,
        stateful_step_count=STEPS_AN_EXAMPLE,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=budget)
    except AssertionError as error:
        return [f"the ledger and the model differ: {error}\n" + "\n".join(getattr(error, "__notes__", []))]
    return []
