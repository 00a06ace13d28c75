"""The history checker is fed histories in which something went wrong: a checker never seen red proves nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import history
from autolabel.database import Database
from autolabel.ledger import Ledger
from evidence import Book, Platform, read_ledger, read_log
from history import check

BEGAN_S = 1.8e9
PROJECT, DATA, OURS = "project-1", "data-1", "autolabel-recipe-1"
STAGES = [{"uuid": "agent", "stageType": "AGENT"}, {"uuid": "annotate", "stageType": "ANNOTATION"}]
AGENT, HUMAN = "encord-sdk-python/1 autolabel/0.1.0", "Mozilla/5.0"


def name(slot: int = 0, recipe: str = "recipe-1") -> str:
    return base64.b64encode(hashlib.sha256(f"{recipe}\0{DATA}\0car\0{slot}\0000".encode()).digest()[:6]).decode()


def drawn(hash_: str, x: float = 0.1) -> dict[str, Any]:
    return {"objectHash": hash_, "featureHash": "car", "boundingBox": {"x": x}}


def row(*objects: dict[str, Any], branch: str = OURS) -> list[Any]:
    answers = {one["objectHash"]: {"classifications": []} for one in objects}
    return [
        "LabelRow",
        {
            "label_hash": f"label-{branch}",
            "project_hash": PROJECT,
            "data_hash": DATA,
            "branch": branch,
            "labels": {DATA: {"objects": list(objects)}},
            "object_answers": answers,
            "object_actions": {},
            "classification_answers": {},
        },
    ]


def task(stage: str, **changes: Any) -> list[Any]:
    own = {"uuid": "task-1", "project_hash": PROJECT, "data_hash": DATA, "stage_uuid": stage}
    return ["Task", own | {"assignee": None, "status": "NEW", "priority": 0.5} | changes]


Step = tuple[float, str, str, list[Any]]


def platform(*steps: Step) -> Platform:
    """Each step: when, what (an event), whose agent, what is put."""
    start = (1.0, "scenario_created", HUMAN, ["Project", {"stages": STAGES}])
    entries: list[dict[str, Any]] = []
    for at_s, event, agent, put in (start, (1.0, "scenario_created", HUMAN, task("annotate")), *steps):
        at = datetime.fromtimestamp(BEGAN_S + at_s, UTC).isoformat()
        entries.append({"kind": "event", "event": event, "at": at, "put": [put]})
        kind = "admin" if event.startswith("human_") else "request"
        entries.append({"kind": kind, "agent": agent, "duration_ms": 1.0})
    return read_log(entries)


CREATED = (13.0, "label_row_created", AGENT, row())
SAVED = (14.0, "label_row_saved", AGENT, row(drawn(name())))
COPIED = (15.0, "labels_copied", AGENT, row(drawn(name()), branch="main"))
GOOD = (CREATED, SAVED, COPIED)
WAY = [(10.0, "found"), (11.0, "leased"), (12.0, "inferred"), (12.5, "intent"), (16.0, "written"), (17.0, "done")]
KEY = {"project_hash": PROJECT, "recipe_id": "recipe-1", "data_hash": DATA}


def book(way: Sequence[tuple[float, str]] = WAY, summary: str | None = None, *, receipt: str | None = None) -> Book:
    given = {**KEY, "branch": "main", "objects": {receipt or name(): "car"}, "at": BEGAN_S + 16.0}
    event = {**KEY, "destination": "main", "run_id": "run-1"}
    return Book(
        runs=[{"id": "run-1", **KEY, "started_at": BEGAN_S + 10.0, "summary": summary}],
        rows=[{**KEY, "destination": "main", "state": way[-1][1], "reason": None, "attempts": 0}],
        receipts=[given] if "written" in dict(way).values() or any(s == "written" for _, s in way) else [],
        events=[{**event, "at": BEGAN_S + at, "state": state} for at, state in way],
    )


def test_a_good_history_has_no_violations() -> None:
    assert check(platform(*GOOD), [book()], settled=True) == []


def test_people_may_change_and_remove_what_they_like() -> None:
    edited = (20.0, "human_edit", HUMAN, row(drawn(name(), 0.7), branch="main"))
    emptied = (21.0, "human_delete", HUMAN, row(branch="main"))
    assert check(platform(*GOOD, edited, emptied), [book()]) == []


def says(violations: list[str], invariant: str, words: str) -> bool:
    return any(one.startswith(f"{invariant}:") and words in one for one in violations)


THEIRS = (18.0, "human_draw", HUMAN, row(drawn(name()), drawn("theirs", 0.9), branch="main"))
AGAIN = (19.0, "label_row_saved", AGENT, row(drawn(name()), branch="main"))


def test_i1_sees_a_save_over_peoples_work() -> None:
    assert says(check(platform(*GOOD, THEIRS, AGAIN), [book()]), "I1", "theirs")


def test_i1_sees_a_human_edit_taken_back() -> None:
    edited = (18.0, "human_edit", HUMAN, row(drawn(name(), 0.8), branch="main"))
    assert says(check(platform(*GOOD, edited, AGAIN), [book()]), "I1", "changed")


def test_i1_sees_a_deleted_object_come_back() -> None:
    emptied = (18.0, "human_delete", HUMAN, row(branch="main"))
    assert says(check(platform(*GOOD, emptied, AGAIN), [book()]), "I1", "came back")


@pytest.mark.parametrize(
    "before", [{"assignee": "ann@example.com"}, {"status": "SKIPPED"}], ids=["assigned", "skipped"]
)
def test_i1_sees_a_task_taken_from_a_person(before: dict[str, str]) -> None:
    theirs = (18.0, "human_assign", HUMAN, task("annotate", **before))
    moved = (19.0, "task_moved", AGENT, task("agent", **before))
    assert says(check(platform(*GOOD, theirs, moved), [book()]), "I1", "task")


def test_i1_lets_a_task_pass_that_a_person_took_meanwhile_and_that_went_straight_back() -> None:
    theirs = (18.0, "human_assign", HUMAN, task("annotate", assignee="ann@example.com"))
    moved = (19.0, "task_moved", AGENT, task("agent", assignee="ann@example.com"))
    back = (20.0, "task_moved", AGENT, task("annotate", assignee="ann@example.com", updated_at="later"))
    assert check(platform(*GOOD, theirs, moved, back), [book()]) == []
    lost = (20.0, "task_moved", AGENT, task("annotate"))
    assert says(check(platform(*GOOD, theirs, moved, lost), [book()]), "I1", "task")


def test_i2_sees_a_random_name() -> None:
    assert says(
        check(platform((14.0, "label_row_saved", AGENT, row(drawn("random00")))), [book()]), "I2", "no recipe"
    )


def test_i2_sees_an_object_twice_by_name_and_by_place() -> None:
    twice = (14.0, "label_row_saved", AGENT, row(drawn(name()), drawn(name())))
    assert says(check(platform(CREATED, twice), [book()]), "I2", "2 times")
    doubled = (14.0, "label_row_saved", AGENT, row(drawn(name(0)), drawn(name(1))))
    assert says(check(platform(CREATED, doubled), [book()]), "I2", "in one place")


def test_i2_sees_objects_of_two_recipes_in_one_row() -> None:
    both = book()
    other = {"id": "run-2", **KEY, "recipe_id": "recipe-2", "started_at": BEGAN_S + 10.0, "summary": None}
    mixed = (14.0, "label_row_saved", AGENT, row(drawn(name()), drawn(name(0, "recipe-2"), 0.5)))
    both = Book([*both.runs, other], both.rows, both.receipts, both.events)
    assert says(check(platform(CREATED, mixed), [both]), "I2", "2 recipes")


def test_i3_sees_a_receipt_of_what_never_stood_there() -> None:
    assert says(check(platform(*GOOD), [book(receipt="phantom0")]), "I3", "never stood")
    assert says(check(platform(CREATED, SAVED), [book()]), "I3", "never stood")


def test_i3_sees_labels_with_a_receipt_removed_by_the_machine() -> None:
    assert says(
        check(platform(*GOOD, (19.0, "label_row_saved", AGENT, row(branch="main"))), [book()]), "I3", "removed"
    )


def test_i3_sees_a_done_row_without_receipt() -> None:
    bare = book()
    assert says(check(platform(*GOOD), [Book(bare.runs, bare.rows, (), bare.events)]), "I3", "without a receipt")


def test_i4_sees_rows_that_do_not_add_up_or_are_left_under_way() -> None:
    counts = {"labelled": 1, "empty": 0, "done_before": 0, "pending": 0, "left_alone": {"gone": 1}, "set_aside": {}}
    assert says(check(platform(*GOOD), [book(summary=json.dumps(counts | {"total": 3}))]), "I4", "2 of 3")
    assert check(platform(), [book(WAY[:3])]) == []
    assert says(check(platform(), [book(WAY[:3])], settled=True), "I4", "left in inferred")


def test_i4_sees_a_row_that_is_not_where_its_events_say() -> None:
    odd = book()
    odd = Book(odd.runs, [{**odd.rows[0], "state": "written"}], odd.receipts, odd.events)
    assert says(check(platform(*GOOD), [odd]), "I4", "last event")


@pytest.mark.parametrize("way", [[WAY[0], WAY[2]], [*WAY, (18.0, "found")], [WAY[1]], [*WAY[:4], (13.0, "done")]])
def test_i5_sees_a_step_that_is_not_in_the_table(way: list[tuple[float, str]]) -> None:
    assert says(check(platform(), [book(way)]), "I5", "went from")


def test_i6_sees_a_write_without_its_intent() -> None:
    late = [*WAY[:3], (14.5, "intent"), *WAY[4:]]
    assert says(check(platform(*GOOD), [book(late)]), "I6", "without an intent")


def test_i6_sees_main_opened_or_saved_where_people_may_be() -> None:
    opened = (13.0, "label_row_created", AGENT, row(branch="main"))
    assert says(check(platform(opened), [book()]), "I6", "not at an Agent stage")


def test_i6_sees_a_save_by_a_run_that_lost_the_row() -> None:
    at_agent = (9.0, "scenario_created", HUMAN, task("agent"))
    late = (20.0, "label_row_saved", AGENT, row(drawn(name()), branch="main"))
    assert says(check(platform(at_agent, late), [book()]), "I6", "lost the row (done)")


def test_i6_sees_a_copy_over_an_existing_row() -> None:
    assert says(check(platform(*GOOD, (16.0, *COPIED[1:])), [book()]), "I6", "replaced")


def test_i6_sees_a_task_that_moves_on_before_its_receipt() -> None:
    at_agent = (9.0, "scenario_created", HUMAN, task("agent"))
    moved = (15.5, "task_moved", AGENT, task("annotate"))
    assert says(check(platform(at_agent, *GOOD, moved), [book()]), "I6", "before its receipt")
    assert check(platform(at_agent, *GOOD, (16.5, *moved[1:])), [book()]) == []


def test_i8_sees_a_save_that_is_sent_again() -> None:
    assert says(check(platform(CREATED, SAVED, SAVED, COPIED), [book()]), "I8", "2 times by 1 runs")


def test_i9_sees_a_secret_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "report.html").write_bytes(b"... s3cr3t ...")
    (tmp_path / "log").write_text(f"GET /blobs/x?expires=1.000&token={'ab' * 32}")
    assert history.leaks(tmp_path / "nowhere") == []
    assert len(history.leaks(tmp_path, [b"s3cr3t"])) == 2


def test_i10_sees_what_was_not_given_back() -> None:
    before, after = {"files": 10, "children": 0}, {"files": 14, "children": 1}
    assert history.left_behind(before, after, {"files": 4}) == ["I10: children went from 0 to 1"]


@pytest.mark.parametrize("trouble", ["absent", "damaged", "empty", "less a column"])
def test_a_ledger_that_cannot_be_read_is_an_error_and_not_an_empty_one(trouble: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(Database(path), time.time).close()
    assert read_ledger(path).runs == []
    path.unlink()
    if trouble == "damaged":
        path.write_bytes(b"no database at all" * 100)
    elif trouble != "absent":
        with closing(sqlite3.connect(path)) as db:
            db.executescript("CREATE TABLE run (id TEXT)" if trouble == "less a column" else "VACUUM")
    with pytest.raises(sqlite3.DatabaseError):
        read_ledger(path)
    assert path.exists() == (trouble != "absent")


def test_what_a_clock_that_was_put_ahead_says_is_taken_back(tmp_path: Path) -> None:
    path, now_s = tmp_path / "ledger.sqlite", time.time()
    Ledger(Database(path), time.time).close()
    with closing(sqlite3.connect(path)) as db, db:
        for seq, at_s in ((1, now_s - 9), (2, now_s + 900)):
            db.execute("INSERT INTO event VALUES (?, ?, 'run', 'data', 'main', 'found', NULL)", (seq, at_s))
    assert [event["at"] for event in read_ledger(path, 901).events] == pytest.approx([now_s - 9, now_s - 1])


def test_i10_sees_media_and_processes_that_are_left_when_all_is_over(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "run-1.lock").touch()
    assert history.left_over(tmp_path) == []
    (tmp_path / "spool" / "run-1").mkdir()
    with (tmp_path / "ledger.sqlite").open("w"):
        assert len(history.left_over(tmp_path)) == 2
    assert history.left_over(tmp_path) == ["I10: spool/run-1 is left"]


def test_a_ledger_with_a_clock_of_its_own_is_not_held_against_the_platforms() -> None:
    slow = book()
    runs = [{**slow.runs[0], "started_at": 1.0}]
    events = [{**event, "at": 1.0} for event in slow.events]
    receipts = [{**receipt, "at": 1.0} for receipt in slow.receipts]
    assert check(platform(*GOOD), [Book(runs, slow.rows, receipts, events)]) == []
