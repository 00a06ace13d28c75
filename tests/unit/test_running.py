"""A look at a project: how it is noted whatever ends it, and what a row of projects ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolabel.bootstrap import Session
from autolabel.core.endings import EXIT_PARTIAL
from autolabel.core.limits import Limit
from autolabel.database import Database
from autolabel.errors import (
    Interrupted,
    PermanentUsageError,
    TransientBusyError,
    TransientError,
    TransientServiceError,
)
from autolabel.home import open_looks
from autolabel.locks import FileLocks, hold_for
from autolabel.looks import Look, Looks
from autolabel.running import EXIT_LATER, Caller, Ended, Visit, carry_out, run_once, visit_all
from autolabel.settings import Settings
from autolabel.sync import Ports
from benches import Bench, rows
from platform_fakes import RECIPE, FakePlatform, FakeRetractor, ScriptedInference, make_project

ONE, OTHER = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")


def settings_of(home: Path, **changes: object) -> Settings:
    base = {"home": home, "config": "demo", "device": "cpu", "report_images": False, "ssh_key": None}
    return Settings(_env_file=None).model_copy(update=base | changes)


class Office:
    """Sessions over one in-memory platform and ledger; `ends` is what their caller was told."""

    def __init__(self, home: Path, inference: ScriptedInference | None = None) -> None:
        self.home, self.ends = home, list[Ended]()
        self.bench = Bench(home, FakePlatform(rows(3), replace(make_project(), project_hash=ONE)), inference)
        self.looks = Looks(Database(home / "ledger.sqlite"), lambda: 7.0)

    def carry_out(self, run_id: str = "run-1", **changes: object) -> Ended:
        platform, bench, settings = self.bench.platform, self.bench, settings_of(self.home, **changes)
        ports = Ports(platform, platform, bench.ledger, bench.inference, self.home)
        locks = FileLocks(self.home)
        session = Session(
            run_id, platform.project(), RECIPE, (), ports, FakeRetractor({}), self.looks, locks, settings
        )
        options = session.options()
        return carry_out(session, session.plan(options), options, Caller("cron", on_end=self.ends.append))

    def look(self) -> dict[str, Any]:
        (look,) = self.looks.all()
        return look


@pytest.fixture
def make_office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    offices: list[Office] = []

    def make(inference: ScriptedInference | None = None) -> Office:
        offices.append(Office(tmp_path, inference))
        return offices[-1]

    yield make
    for office in offices:
        office.looks.close()


def test_a_run_that_does_its_work_is_noted_as_a_success(make_office: Callable[..., Office]) -> None:
    office = make_office()
    ended = office.carry_out()
    assert (ended.exit_code, ended.did_work, office.ends) == (0, True, [ended])
    look = office.look()
    assert (look["run_id"], look["called_by"], look["error"], look["project_title"]) == (
        "run-1",
        "cron",
        None,
        "Cars",
    )
    assert look["succeeded_at"] == 7.0


def test_a_run_that_an_error_ends_is_told_and_noted_with_its_error(make_office: Callable[..., Office]) -> None:
    office = make_office()
    office.bench.platform.fail_next_write = TransientServiceError("503 while saving")
    with pytest.raises(TransientServiceError):
        office.carry_out()
    assert [ended.summary and ended.summary["stopped_by"] for ended in office.ends] == ["503 while saving"]
    assert (office.look()["run_id"], office.look()["error"]) == ("run-1", "503 while saving")
    assert office.look()["succeeded_at"] is None


def test_a_signal_is_noted_as_what_it_is(make_office: Callable[..., Office]) -> None:
    inference = ScriptedInference()
    inference.dies_at = 0
    office = make_office(inference)
    with pytest.raises(Interrupted):
        office.carry_out()
    assert office.look()["error"] == "interrupted"


def test_that_another_run_does_the_work_is_neither_a_success_nor_an_error(
    make_office: Callable[..., Office],
) -> None:
    office = make_office()
    office.looks.note(Look(ONE, "webhook", error="away"))
    work = f"run of recipe {RECIPE.id[:8]} to main"
    lock = FileLocks(office.home).project(ONE, work)
    with hold_for(work, lock), pytest.raises(TransientBusyError):
        office.carry_out()
    assert (office.look()["error"], office.look()["succeeded_at"], office.ends) == ("away", None, [])


def test_a_run_under_a_daily_cap_has_the_project_for_itself(make_office: Callable[..., Office]) -> None:
    office = make_office()
    lock = FileLocks(office.home).project(ONE, "run of another recipe")
    with hold_for("run of another recipe", lock), pytest.raises(TransientError):
        office.carry_out(max_objects_a_day=5)
    assert office.carry_out(max_objects_a_day=5).exit_code == 0


def test_rows_that_a_limit_holds_back_end_a_run_well_and_others_that_wait_do_not(
    make_office: Callable[..., Office],
) -> None:
    office = make_office()
    assert office.carry_out(max_waiting=1).exit_code == 0
    office.bench.platform.unreadable["row-02"] = TransientServiceError("503")
    assert office.carry_out("run-2", max_waiting=3).exit_code == EXIT_LATER


def test_a_run_that_only_infers_what_the_days_cap_then_holds_back_is_no_news(
    make_office: Callable[..., Office],
) -> None:
    office = make_office(ScriptedInference(cars=2))
    office.bench.push(limit=1)
    ended = office.carry_out("run-2", max_objects_a_day=3)
    assert (ended.exit_code, ended.did_work, ended.report) == (0, False, None)
    assert ended.summary
    assert ended.summary["held_back"] == {Limit.MAX_OBJECTS_A_DAY: 2}


def test_an_error_before_anything_is_opened_is_noted_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with pytest.raises(PermanentUsageError, match="no key"):
        run_once(settings, ONE, Caller("webhook"))
    with closing(open_looks(settings)) as looks:
        (look,) = looks.all()
    assert (look["project_hash"], look["called_by"], look["run_id"]) == (ONE, "webhook", None)
    assert look["error"].startswith("no key for the platform")


def test_one_projects_failure_stops_no_other_and_the_longest_ago_comes_first(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, projects=(ONE, OTHER))
    with pytest.raises(PermanentUsageError):
        run_once(settings, ONE, Caller("cli"))
    visits = list(visit_all(settings))
    assert [visit.project_hash for visit in visits] == [OTHER, ONE]
    assert [visit.exit_code for visit in visits] == [2, 2]


def test_projects_for_which_no_time_is_left_are_not_reached(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, projects=(ONE, OTHER), max_minutes=1e-9)
    assert list(visit_all(settings)) == [Visit(ONE, is_reached=False), Visit(OTHER, is_reached=False)]


def test_a_visit_ends_with_the_code_of_its_error_or_of_its_run() -> None:
    assert Visit(ONE).exit_code == 0
    assert Visit(ONE, Ended("Cars", exit_code=EXIT_PARTIAL)).exit_code == EXIT_PARTIAL
    assert Visit(ONE, Ended("Cars"), TransientServiceError("503")).exit_code == EXIT_LATER
    assert Visit(ONE, error=ZeroDivisionError()).exit_code == 1
