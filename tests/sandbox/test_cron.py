"""Pushes that nobody watches: `push --all` from cron, beside others, and under limits. Real SDK over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from encord.objects import OntologyStructure, Shape

from autolabel.core.limits import Limit
from autolabel.home import open_looks, open_overview
from autolabel.settings import Settings
from quick_pushes import Desk
from sandbox.commands import Command, Label, assert_same_labels
from sandbox.conftest import RunningSandbox
from sandbox.own_project import make_project

NOWHERE = "11111111-1111-1111-1111-111111111111"


def runs_of(push: Command) -> list[dict[str, Any]]:
    with closing(open_overview(Settings(_env_file=None, home=push.home))) as overview:  # type: ignore[call-arg]
        return overview.runs(100)


def looks_of(push: Command) -> dict[str, dict[str, Any]]:
    with closing(open_looks(Settings(_env_file=None, home=push.home))) as looks:  # type: ignore[call-arg]
        return {look["project_hash"]: look for look in looks.all()}


def test_one_project_is_broken_one_idle_and_one_has_work_and_afterwards_cron_is_silent(push: Command) -> None:
    structure = OntologyStructure()
    structure.add_object("steel scalpel", Shape.BOUNDING_BOX)
    idle = make_project(push.sandbox, structure, []).project_hash
    three = " ".join((NOWHERE, idle, push.project))
    done = push("push", "--all", AUTOLABEL_PROJECTS=three)
    print(done.stdout, done.stderr)
    assert done.returncode == 1
    (said,), (error,) = done.stdout.splitlines(), done.stderr.splitlines()
    (run,) = runs_of(push)
    summary = json.loads(run["summary"])
    assert said.startswith(f"Demo: surgical tools: {summary['labelled']} labelled, ")
    assert f"run {run['id']}, report {push.home}/reports/{run['id']}.html" in said
    assert error.startswith(f"error: project {NOWHERE}: ")
    assert summary["eligible"] == summary["labelled"] + summary["empty"] > 0
    assert summary["remote_calls"]["200"] > 10
    looks = looks_of(push)
    assert [looks[key]["run_id"] for key in (NOWHERE, idle, push.project)] == [None, None, run["id"]]
    assert [bool(looks[key]["error"]) for key in (NOWHERE, idle, push.project)] == [True, False, False]

    mark = len(push.sandbox.log())
    again = push("push", "--all", AUTOLABEL_PROJECTS=f"{idle},{push.project}")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (len(runs_of(push)), push.sandbox.writes(mark)) == (1, [])
    assert looks_of(push)[push.project]["at"] > looks[push.project]["at"]


def test_cron_and_people_at_once_label_each_row_once(push: Command, undisturbed: list[Label]) -> None:
    commands = [
        ["push", "--all", "--json"],
        ["push", "--project", push.project, "--yes", "--json"],
        ["push", "--all", "--json"],
    ]
    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(lambda command: push(*command, AUTOLABEL_PROJECTS=push.project), commands))
    print(*((done.returncode, done.stdout[:80], done.stderr) for done in ends), sep="\n")
    assert [done.returncode for done in ends] == [0, 0, 0]
    assert all(done.stderr == "" for done in (ends[0], ends[2]))
    results = [json.loads(done.stdout) for done in ends if done.stdout]
    labelled = {label.data_hash for label in undisturbed}
    assert sum(result["labelled"] for result in results) == len(labelled)
    assert_same_labels(push.sandbox, undisturbed)


def test_after_its_minutes_a_push_says_what_it_left_and_ends_well(push: Command) -> None:
    result = push.push("--max-minutes", "0.01")
    assert result["exit"] == 0
    assert result["held_back"] == {Limit.MAX_MINUTES: result["pending"]}
    assert (result["pending"], result["labelled"]) == (result["eligible"], 0)


@pytest.fixture
def desk(demo_sandbox: RunningSandbox, tmp_path: Path) -> Desk:
    (project_hash,) = demo_sandbox.projects.values()
    return Desk(demo_sandbox.domain, demo_sandbox.ssh_key_file, project_hash, tmp_path)


def test_a_brake_lets_rows_through_as_annotators_submit_theirs(desk: Desk, demo_sandbox: RunningSandbox) -> None:
    first = desk.push(max_waiting=3)
    assert (first.tally.labelled, first.summary()["held_back"]) == (
        3,
        {Limit.MAX_WAITING: first.summary()["pending"]},
    )
    assert desk.push(max_waiting=3).plan.is_idle
    done = {row.data_hash for row in first.plan.todo}
    submitted = next(row for row in demo_sandbox.project().list_label_rows_v2() if row.data_hash in done)
    demo_sandbox.human("submit", submitted)
    assert desk.push(max_waiting=3).tally.labelled == 1


def test_a_daily_cap_holds_from_run_to_run(desk: Desk, demo_sandbox: RunningSandbox) -> None:
    runs = [desk.push(max_objects_a_day=5) for _ in range(3)]  # two objects a row
    assert [(run.tally.labelled, run.plan.is_idle) for run in runs] == [(2, False), (0, True), (0, True)]
    assert all(run.summary()["held_back"] == {Limit.MAX_OBJECTS_A_DAY: run.summary()["pending"]} for run in runs)
    assert len(demo_sandbox.rows()[desk.recipe.branch]) == 2
