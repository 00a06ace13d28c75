"""The ledger: only the allowed steps, all durable, each row one run's own; in a file as on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autolabel.core.detections import FrameLabels
from autolabel.errors import PermanentLedgerError
from autolabel.ledger import LEASE_S, Ledger
from autolabel.protocols import Receipt
from autolabel.states import ALLOWED, Chunk, Job, Landed, Move, State
from ledgers import ON_POSTGRES, open_ledger

JOB = Job("project", "recipe", "main")
FRAMES = [FrameLabels(0, 10, 10, (), {}, "digest")]


def started(folder: Path, *rows: str, alive: bool = False, clock: Callable[[], float] = lambda: 12.0) -> Ledger:
    ledger = open_ledger(folder, alive=alive, clock=clock)
    ledger.start_run("run", JOB, "Title", {})
    ledger.claim(JOB, "run", rows, {})
    return ledger


def state(ledger: Ledger, key: str) -> State:
    return ledger.records(JOB)[key].state


def test_rows_survive_a_restart(tmp_path: Path) -> None:
    started(tmp_path, "a", "b").close()
    assert {key: record.state for key, record in open_ledger(tmp_path).records(JOB).items()} == {
        "a": State.LEASED,
        "b": State.LEASED,
    }


def test_a_step_outside_the_table_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    with pytest.raises(PermanentLedgerError, match="cannot go from leased to done"):
        ledger.move(JOB, "run", [Move("a", State.INFERRED), Move("b", State.DONE)])
    assert state(ledger, "a") == State.LEASED


@settings(max_examples=10 if ON_POSTGRES else 100)
@given(steps=st.lists(st.sampled_from(list(State)), max_size=12))
def test_no_sequence_of_moves_leaves_the_table(tmp_path_factory: pytest.TempPathFactory, steps: list[State]) -> None:
    ledger = started(tmp_path_factory.mktemp("ledger"), "a")
    now = State.LEASED
    for step in steps:
        if step in ALLOWED[now]:
            assert ledger.move(JOB, "run", [Move("a", step)]) == {"a"}
            now = step
        else:
            with pytest.raises(PermanentLedgerError):
                ledger.move(JOB, "run", [Move("a", step)])
        assert state(ledger, "a") == now
    ledger.close()


def test_done_ends_only_where_people_or_an_undo_take_the_row_back() -> None:
    assert ALLOWED[State.DONE] == {State.LEFT_ALONE}


def test_a_run_takes_over_what_a_dead_one_held(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.start_run("next", JOB, "Title", {})
    claims = ledger.claim(JOB, "next", ["a"], ledger.records(JOB))
    assert (claims.taken["a"].state, claims.taken["a"].run_id, claims.elsewhere) == (State.LEASED, "next", {})


def test_rows_of_a_living_run_stay_its_own_and_the_rest_is_shared(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", alive=True)
    ledger.start_run("next", JOB, "Title", {})
    claims = ledger.claim(JOB, "next", ["a", "b"], {})
    assert (set(claims.taken), claims.elsewhere) == ({"b"}, {"a": "run"})
    assert ledger.leave(JOB, "next", {"a": "assigned", "c": "assigned"}, {}) == {"c"}


def test_a_run_that_ended_holds_nothing(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", alive=True)
    ledger.finish_run("run", {})
    ledger.start_run("next", JOB, "Title", {})
    assert set(ledger.claim(JOB, "next", ["a"], ledger.records(JOB)).taken) == {"a"}


def test_each_step_renews_the_lease_and_a_run_that_takes_none_loses_its_rows(tmp_path: Path) -> None:
    now_s = [0.0]
    ledger = started(tmp_path, "a", "b", alive=True, clock=lambda: now_s[0])
    ledger.start_run("next", JOB, "Title", {})
    now_s[0] = LEASE_S - 1
    ledger.put_detections(JOB, "run", [Chunk("b", FRAMES, ends_row=True)])
    now_s[0] = 2 * LEASE_S - 2
    assert set(ledger.claim(JOB, "next", ["a"], {}).taken) == set()
    now_s[0] = 2 * LEASE_S
    assert set(ledger.claim(JOB, "next", ["a"], {}).taken) == {"a"}


def test_steps_of_a_run_that_lost_a_row_are_left_out_and_its_other_rows_go_on(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    ledger.start_run("next", JOB, "Title", {})
    ledger.claim(JOB, "next", ["a"], {})
    chunks = [Chunk(key, FRAMES, ends_row=True) for key in ("a", "b")]
    assert ledger.put_detections(JOB, "run", chunks) == {"b"}
    assert ledger.move(JOB, "run", [Move("a", State.SET_ASIDE), Move("b", State.INTENT)]) == {"b"}
    ledger.start_attempt(JOB, "run", ["a"])
    assert (state(ledger, "a"), ledger.records(JOB)["a"].attempts, ledger.stored("recipe")) == ("leased", 0, {"b"})


def test_a_row_settled_since_it_was_seen_is_not_taken_up_again(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    seen = ledger.records(JOB)
    ledger.move(JOB, "run", [Move("a", State.SET_ASIDE, "crash")])
    assert ledger.claim(JOB, "next", ["a"], seen).elsewhere == {"a": "run"}
    assert ledger.leave(JOB, "next", {"a": "assigned"}, seen) == frozenset()
    assert set(ledger.claim(JOB, "next", ["a"], ledger.records(JOB)).taken) == {"a"}


def test_a_done_row_is_never_claimed_but_can_be_left_to_people(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.INFERRED), Move("a", State.DONE)])
    with pytest.raises(PermanentLedgerError, match="is done and cannot be claimed"):
        ledger.claim(JOB, "next", ["a"], ledger.records(JOB))
    assert ledger.leave(JOB, "next", {"a": "human_content"}, ledger.records(JOB)) == {"a"}


def test_detections_are_kept_by_recipe_and_clear_the_attempts(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.start_attempt(JOB, "run", ["a"])
    assert ledger.records(JOB)["a"].attempts == 1
    ledger.put_detections(JOB, "run", [Chunk("a", FRAMES, ends_row=True)])
    assert list(ledger.detections("recipe", "a")) == FRAMES
    assert (ledger.stored("recipe"), ledger.stored("other")) == (frozenset({"a"}), frozenset())
    assert ledger.records(JOB)["a"].attempts == 0


def test_failed_downloads_are_counted_a_row_until_it_is_taken_up_anew_or_inferred(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    assert [ledger.count_failed_download(JOB, "run", key) for key in ("a", "a", "b")] == [1, 2, 1]
    ledger.move(JOB, "run", [Move("a", State.SET_ASIDE)])
    ledger.claim(JOB, "run", ["a"], ledger.records(JOB))
    ledger.put_detections(JOB, "run", [Chunk("b", FRAMES, ends_row=False)])
    assert [ledger.count_failed_download(JOB, "run", key) for key in ("a", "b")] == [1, 1]


def test_a_row_is_inferred_with_its_last_chunk_and_its_frames_come_in_order(tmp_path: Path) -> None:
    frames = [FrameLabels(index, 10, 10, (), {}, "digest") for index in range(5)]
    ledger = started(tmp_path, "a")
    ledger.put_detections(JOB, "run", [Chunk("a", frames[3:], ends_row=False)])
    assert (ledger.stored("recipe"), ledger.records(JOB)["a"].state) == (frozenset(), State.LEASED)
    assert list(ledger.detections("recipe", "a")) == frames[3:]
    ledger.put_detections(JOB, "run", [Chunk("a", frames[:3], ends_row=True)])
    assert (ledger.stored("recipe"), ledger.records(JOB)["a"].state) == (frozenset({"a"}), State.INFERRED)
    assert list(ledger.detections("recipe", "a")) == frames


def test_receipts_tell_which_objects_are_ours_and_which_run_wrote_them(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    ledger.move(JOB, "run", [Move("a", State.INFERRED), Move("a", State.INTENT)])
    ledger.move(
        JOB, "run", [Move("a", State.WRITTEN, receipt=Receipt("b", "label", {"h1": "c", "h2": "c"}, "digest"))]
    )
    assert ledger.our_hashes("project") == {"a": {"h1": "recipe", "h2": "recipe"}}
    (receipt,) = ledger.receipts("run")
    assert [receipt[key] for key in ("data_hash", "branch", "objects")] == ["a", "b", {"h1": "c", "h2": "c"}]
    assert ledger.receipts("another run") == ledger.receipts(naming="h") == ledger.receipts(naming="H2") == []
    assert ledger.receipts(naming="h2") == [receipt]


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    """What is logged."""
    with capture_logs() as found:
        yield found


def test_each_step_that_is_on_the_disk_is_a_line_of_the_log(tmp_path: Path, lines: list[dict[str, object]]) -> None:
    ledger = started(tmp_path, "a")
    with pytest.raises(PermanentLedgerError):
        ledger.move(JOB, "run", [Move("a", State.INFERRED), Move("a", State.LEASED)])
    ledger.move(JOB, "run", [Move("a", State.SET_ASIDE, "crash")])
    ledger.finish_run("run", {})
    told = [(line["event"], line.get("row"), line["state"], line.get("reason")) for line in lines]
    steps = [("row", "a", "found", None), ("row", "a", "leased", None), ("row", "a", "set_aside", "crash")]
    assert told == [("run", None, "started", None), *steps, ("run", None, "ended", None)]
    assert {(line["run"], line["project"]) for line in lines} == {("run", "project")}


def test_nothing_is_printed_where_nobody_said_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started(tmp_path, "a").finish_run("run", {})
    assert capsys.readouterr() == ("", "")


def test_objects_of_a_time_are_counted_once_on_whatever_branches_they_stand(tmp_path: Path) -> None:
    now_s = [10.0]
    ledger = started(tmp_path, "a", "b", clock=lambda: now_s[0])
    for name, branch in (("a", "main"), ("b", "autolabel-1"), ("b", "main")):
        steps = [State.INFERRED] * (state(ledger, name) == State.LEASED) + [State.INTENT]
        ledger.move(JOB, "run", [Move(name, step) for step in steps])
        receipt = Receipt(branch, "label", {f"{name}1": "c", f"{name}2": "c"}, "digest")
        ledger.move(JOB, "run", [Move(name, State.WRITTEN, receipt=receipt)])
        now_s[0] += 10.0
    counted = [ledger.objects_within("project", seconds) for seconds in (40.0, 25.0, 10.0, 9.0)]
    assert (counted, ledger.objects_within("another", 40.0)) == ([4, 2, 2, 0], 0)


def test_an_undone_row_is_left_to_people_and_its_receipt_stays(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a")
    steps = [Move("a", State.INFERRED), Move("a", State.INTENT)]
    ledger.move(JOB, "run", [*steps, Move("a", State.WRITTEN, receipt=Receipt("b", "label", {"h1": "c"}, "digest"))])
    ledger.end_undo(JOB, "run", "a", "other branch", ends_row=False)
    assert ledger.records(JOB)["a"].state == State.WRITTEN
    for _ in range(2):
        ledger.end_undo(JOB, "run", "a", "b", ends_row=True)
        assert (ledger.records(JOB)["a"].state, ledger.records(JOB)["a"].reason) == (State.LEFT_ALONE, "undone")
    assert ledger.undone("project", "recipe") == {"a"}
    assert len(ledger.receipts("run")) == 1
    assert ledger.undo_marks("project", "recipe").keys() == {("a", "b"), ("a", "other branch")}


def test_what_landed_on_main_is_kept_with_when_it_was_last_looked_at(tmp_path: Path) -> None:
    ledger = started(tmp_path, "a", "b")
    for name, branch in (("a", "main"), ("b", "autolabel-1")):
        receipt = Receipt(branch, "label", {"h1": "c"}, "digest", 5.0)
        ledger.move(JOB, "run", [Move(name, State.INFERRED), Move(name, State.INTENT)])
        ledger.move(JOB, "run", [Move(name, State.WRITTEN, receipt=receipt)])
    assert ledger.landed("project") == {"a": Landed(frozenset({"h1"}), 5.0, 0.0)}
    ledger.note_edits("project", {"a": 7.0})
    assert ledger.landed("project")["a"].edited_at_s == 7.0
