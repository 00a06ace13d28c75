"""What operators ask the ledger: rows that add up, runs by how they ended, and trouble first."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from autolabel.ledger import Ledger
from autolabel.overview import HOUR_S, Overview, facts
from autolabel.states import Job, Move, State
from ledgers import open_database, open_ledger
from past import NOW_S, Past

JOB = Job("project", "recipe", "branch")
ASIDE, LEFT = (State.SET_ASIDE, "decode"), (State.LEFT_ALONE, "assigned")


def test_states_are_counted_by_reason(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.start_run("run", JOB, "Title", {})
    ledger.claim(JOB, "run", ["a", "b"], {})
    ledger.move(JOB, "run", [Move("b", State.LEFT_ALONE, "assigned")])
    with closing(Overview(open_database(tmp_path))) as overview:
        counted = [(row["state"], row["reason"], row["rows"]) for row in overview.counts()]
    assert counted == [("leased", None, 1), ("left_alone", "assigned", 1)]


def test_rows_are_told_by_what_became_of_them(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="ab", empty="c", ends={"d": ASIDE, "e": LEFT, "f": LEFT}, summary={})
    with closing(past.overview()) as overview:
        assert overview.outcomes() == [
            ("p", "empty", "", 1),
            ("p", "labelled", "", 2),
            ("p", "left_alone", "assigned", 2),
            ("p", "set_aside", "decode", 1),
        ]
        assert [row["data_hash"] for row in overview.messages(limit=5)] == ["d"]


def test_what_was_settled_is_told_by_the_hour_each_time_that_it_was(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="a", ends={"b": ASIDE})
    past.now_s += 2 * HOUR_S
    past.run("run-2", empty="b", labelled="cd")
    first = int(NOW_S // HOUR_S)
    with closing(past.overview()) as overview:
        later = {(first + 2, "empty"): 1, (first + 2, "labelled"): 2}
        assert overview.by_hour(0) == {(first, "labelled"): 1, (first, "set_aside"): 1} | later
        assert overview.by_hour(NOW_S + 1) == later


@pytest.mark.parametrize(
    ("alive", "summary", "ended"),
    [
        (True, None, "under way"),
        (False, None, "killed"),
        (False, {"stopped_by": "the service is away"}, "stopped"),
        (False, {}, "finished"),
    ],
)
def test_a_run_is_told_by_how_it_ended(
    tmp_path: Path, *, alive: bool, summary: dict[str, str] | None, ended: str
) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="ab", empty="c", summary=summary)
    with closing(past.overview(alive=alive)) as overview:
        (run,) = overview.runs(limit=5)
        unfinished = [one["id"] for one in overview.unfinished()]
    assert (run["ended"], run["is_alive"]) == (ended, ended == "under way")
    assert (run["objects"], run["rows_per_hour"]) == ((None, None) if summary is None else (6, 108.0))
    assert unfinished == (["run-1"] if summary is None else [])


def test_a_run_that_ends_while_it_is_looked_at_was_never_killed(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="a")

    def ends(run_id: str) -> bool:
        with closing(Ledger(past.database, lambda: NOW_S)) as ledger:
            ledger.finish_run(run_id, past.summary(run_id, 1, 0))
        return False

    with closing(Overview(past.database, ends)) as overview:
        assert [run["ended"] for run in overview.runs(limit=1)] == ["under way"]
        assert [run["ended"] for run in overview.runs(limit=1)] == ["finished"]


def test_what_an_older_release_did_not_say_of_a_run_is_unknown() -> None:
    told = facts({"summary": '{"labelled": 2, "objects": {"car": 3}, "stopped_by": null}'}, is_alive=False)
    assert (told["ended"], told["objects"], told["frames_per_second"], told["held_back"]) == ("finished", 3, None, {})


def test_projects_in_trouble_come_first_each_with_its_latest_look_and_run(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", "fine", labelled="ab", summary={})
    past.look("fine", project_title="Fine", run_id="run-1")
    past.look("away", project_title="Zebra", error="no right to this project")
    past.wake("fine", "stage-1")
    past.wake("fine", "stage-2")
    past.wake("", "folder/1")
    past.now_s += 10
    past.run("run-2", "fine", ends={"c": ASIDE}, summary={"held_back": {"max_minutes": 7}})
    past.run("run-3", "killed", labelled="a")
    with closing(past.overview()) as overview:
        killed, zebra, fine = overview.projects()
        assert overview.owed() == {"fine": 2, "": 1}
    assert (zebra["title"], zebra["trouble"], zebra["run"]) == ("Zebra", "no right to this project", None)
    assert (killed["title"], killed["look"]) == ("Title of killed", None)
    assert killed["trouble"] == "run run-3 was killed; the next one goes on from there"
    assert (fine["trouble"], fine["owed"], fine["run"]["id"]) == (None, 2, "run-2")
    assert fine["rows"] == {"labelled": 2, "empty": 0, "left_alone": 0, "set_aside": 1, "under_way": 0}
    assert fine["reasons"] == [("set_aside", "decode", 1)]
    assert fine["run"]["held_back"] == {"max_minutes": 7}


def test_a_look_that_went_well_after_a_kill_ends_the_trouble(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="a")
    past.now_s += 10
    past.look("p", project_title="Fine")
    with closing(past.overview()) as overview:
        assert [project["trouble"] for project in overview.projects()] == [None]


def test_a_ledger_without_any_run_has_nothing_to_tell(tmp_path: Path) -> None:
    with closing(Past(tmp_path).overview()) as overview:
        assert (overview.projects(), overview.outcomes(), overview.by_hour(0), overview.finished(0)) == (
            [],
            [],
            {},
            [],
        )
