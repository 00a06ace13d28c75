"""The ledger: only the allowed steps, all durable; a file that cannot be trusted is refused before anything else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.detections import FrameLabels
from autolabel.errors import PermanentLedgerError
from autolabel.ledger import ALLOWED, Chunk, Job, Ledger, Move, State
from autolabel.protocols import Receipt
from ledgers import open_ledger

JOB = Job("project", "recipe", "main")
FRAMES = [FrameLabels(0, 10, 10, (), {}, "digest")]


def started(folder: Path, *rows: str) -> Ledger:
    ledger = open_ledger(folder)
    ledger.start_run("run", JOB, "Title", {})
    ledger.find(JOB, "run", rows)
    return ledger


def test_rows_survive_a_restart(tmp_path: Path) -> None:
    started(tmp_path, "a", "b").close()
    assert {key: record.state for key, record in open_ledger(tmp_path).records(JOB).items()} == {
        "a": State.FOUND,
        "b": State.FOUND,
    }


def test_a_step_outside_the_table_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    with pytest.raises(PermanentLedgerError, match="cannot go from found to done"):
        ledger.move(JOB, "run", [Move("a", State.LEASED), Move("b", State.DONE)])
    assert ledger.records(JOB)["a"].state == State.FOUND


@given(steps=st.lists(st.sampled_from(list(State)), max_size=12))
def test_no_sequence_of_moves_leaves_the_table(tmp_path_factory: pytest.TempPathFactory, steps: list[State]) -> None:
    ledger = started(tmp_path_factory.mktemp("ledger"), "a")
    state = State.FOUND
    for step in steps:
        if step in ALLOWED[state]:
            ledger.move(JOB, "run", [Move("a", step)])
            state = step
        else:
            with pytest.raises(PermanentLedgerError):
                ledger.move(JOB, "run", [Move("a", step)])
        assert ledger.records(JOB)["a"].state == state
    ledger.close()


def test_done_is_the_end_unless_people_or_an_undo_come_after_it() -> None:
    assert ALLOWED[State.DONE] == {State.LEFT_ALONE}


def test_a_new_run_takes_back_what_a_dead_one_held(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.LEASED)])
    ledger.start_run("next", JOB, "Title", {})
    assert ledger.records(JOB)["a"].state == State.FOUND


def test_detections_are_kept_by_recipe_and_clear_the_attempts(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.LEASED)])
    ledger.start_attempt(JOB, ["a"])
    assert ledger.records(JOB)["a"].attempts == 1
    ledger.put_detections(JOB, "run", [Chunk("a", FRAMES, ends_row=True)])
    assert list(ledger.detections("recipe", "a")) == FRAMES
    assert (ledger.stored("recipe"), ledger.stored("other")) == (frozenset({"a"}), frozenset())
    assert ledger.records(JOB)["a"].attempts == 0


def test_failed_downloads_are_counted_a_row_until_it_is_taken_up_anew_or_inferred(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    assert [ledger.count_failed_download(JOB, key) for key in ("a", "a", "b")] == [1, 2, 1]
    ledger.move(JOB, "run", [Move("a", State.LEASED), Move("a", State.SET_ASIDE), Move("b", State.LEASED)])
    ledger.find(JOB, "run", ["a"])
    ledger.put_detections(JOB, "run", [Chunk("b", FRAMES, ends_row=False)])
    assert [ledger.count_failed_download(JOB, key) for key in ("a", "b")] == [1, 1]


def test_a_row_is_inferred_with_its_last_chunk_and_its_frames_come_in_order(tmp_path: Path) -> None:
    frames = [FrameLabels(index, 10, 10, (), {}, "digest") for index in range(5)]
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.LEASED)])
    ledger.put_detections(JOB, "run", [Chunk("a", frames[3:], ends_row=False)])
    assert (ledger.stored("recipe"), ledger.records(JOB)["a"].state) == (frozenset(), State.LEASED)
    assert list(ledger.detections("recipe", "a")) == frames[3:]
    ledger.put_detections(JOB, "run", [Chunk("a", frames[:3], ends_row=True)])
    assert (ledger.stored("recipe"), ledger.records(JOB)["a"].state) == (frozenset({"a"}), State.INFERRED)
    assert list(ledger.detections("recipe", "a")) == frames


def test_a_ledger_of_the_first_schema_is_taken_over_with_its_detections(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.LEASED)])
    ledger.put_detections(JOB, "run", [Chunk("a", FRAMES, ends_row=True)])
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        raw.execute("ALTER TABLE detections DROP COLUMN ends_row")
        raw.execute("ALTER TABLE row DROP COLUMN failed_downloads")
        raw.execute("ALTER TABLE receipt DROP COLUMN samples_per_second")
        raw.execute("DROP TABLE undo")
        raw.execute("PRAGMA user_version = 1")
    raw.close()
    ledger = open_ledger(tmp_path)
    assert ledger.stored("recipe") == frozenset({"a"})
    assert ledger.count_failed_download(JOB, "a") == 1
    assert ledger.receipts() == []
    assert ledger.undo_marks("project", "recipe") == {}


def test_receipts_tell_which_objects_are_ours_and_which_run_wrote_them(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.LEASED), Move("a", State.INFERRED), Move("a", State.INTENT)])
    ledger.move(
        JOB, "run", [Move("a", State.WRITTEN, receipt=Receipt("b", "label", {"h1": "c", "h2": "c"}, "digest"))]
    )
    assert ledger.our_hashes("project") == {"a": {"h1": "recipe", "h2": "recipe"}}
    (receipt,) = ledger.receipts("run")
    assert [receipt[key] for key in ("data_hash", "branch", "objects")] == ["a", "b", {"h1": "c", "h2": "c"}]
    assert ledger.receipts("another run") == ledger.receipts(naming="h") == []
    assert ledger.receipts(naming="h2") == [receipt]


def test_an_undone_row_is_left_to_people_and_its_receipt_stays(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    steps = [Move("a", State.LEASED), Move("a", State.INFERRED), Move("a", State.INTENT)]
    ledger.move(JOB, "run", [*steps, Move("a", State.WRITTEN, receipt=Receipt("b", "label", {"h1": "c"}, "digest"))])
    ledger.end_undo(JOB, "run", "a", "other branch", ends_row=False)
    assert ledger.records(JOB)["a"].state == State.WRITTEN
    for _ in range(2):
        ledger.end_undo(JOB, "run", "a", "b", ends_row=True)
        assert (ledger.records(JOB)["a"].state, ledger.records(JOB)["a"].reason) == (State.LEFT_ALONE, "undone")
    assert ledger.undone("project", "recipe") == {"a"}
    assert len(ledger.receipts("run")) == 1
    assert ledger.undo_marks("project", "recipe").keys() == {("a", "b"), ("a", "other branch")}


def test_states_are_counted_by_reason(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    ledger.move(JOB, "run", [Move("a", State.LEFT_ALONE, "assigned")])
    assert [(row["state"], row["reason"], row["rows"]) for row in ledger.counts()] == [
        ("found", None, 1),
        ("left_alone", "assigned", 1),
    ]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(PermanentLedgerError, match="newer release"):
        open_ledger(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    started(tmp_path, "a").close()
    path = tmp_path / "ledger.sqlite"
    body = bytearray(path.read_bytes())
    body[100:4000] = b"\xff" * 3900
    path.write_bytes(body)
    with pytest.raises(PermanentLedgerError, match=r"nothing (more is|was) written"):
        open_ledger(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("hello" * 100)
    with pytest.raises(PermanentLedgerError, match=r"nothing (more is|was) written"):
        open_ledger(tmp_path)


def test_a_commit_is_on_disk_before_the_call_returns(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with ledger._read() as db:
        assert db.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
