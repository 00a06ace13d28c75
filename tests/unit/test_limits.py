"""A run under limits: what it takes up, what it leaves to a later one, and that this goes on where it ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autolabel.core.limits import DAY_S, Limit
from autolabel.core.rows import LabelRow
from autolabel.errors import TransientServiceError
from autolabel.protocols import Clip, ClipAnswer
from autolabel.states import State
from autolabel.sync import Run
from benches import Bench, adds_up, agent_platform, rows, waiting
from platform_fakes import ANNOTATE, REVIEW, FakePlatform, ScriptedInference, make_row

FILM = make_row("film", data_type="video", frames=25 * 100, frames_per_second=25.0)


class SlowInference(ScriptedInference):
    """Each question takes so many seconds of the bench's clock."""

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.bench: Bench | None = None

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        assert self.bench is not None
        self.bench.now_s += self.seconds
        return super()._answers(clips)


def slow_bench(folder: Path, *listed: LabelRow) -> Bench:
    inference = SlowInference()
    inference.bench = Bench(folder, FakePlatform(listed), inference)
    return inference.bench


def held(run: Run) -> dict[str, int]:
    summary = run.summary()
    assert adds_up(run)
    assert sum(summary["held_back"].values()) <= summary["pending"]
    return dict(summary["held_back"])


# Minutes


def test_after_its_time_a_run_takes_up_nothing_new_and_delivers_what_is_inferred(tmp_path: Path) -> None:
    bench = slow_bench(tmp_path, *rows(200))
    run = bench.push(until_s=bench.now_s + 3, batch_frames=2, download_threads=1)
    assert 0 < run.tally.labelled == run.tally.inferred_frames < 50
    assert held(run) == {Limit.MAX_MINUTES: 200 - run.tally.labelled}
    assert bench.push().tally.labelled == 200 - run.tally.labelled


def test_a_long_video_stops_between_chunks_and_goes_on_with_the_first_that_is_missing(tmp_path: Path) -> None:
    bench = slow_bench(tmp_path, FILM)
    run = bench.push(until_s=bench.now_s + 1)
    looked_at = list(bench.inference.indices)
    assert 0 < run.tally.inferred_frames < 100
    assert held(run) == {Limit.MAX_MINUTES: 1}
    assert bench.states() == {"film": State.LEASED}
    assert bench.push().tally.labelled == 1
    assert bench.inference.indices[: len(looked_at)] == looked_at
    assert sorted(bench.inference.indices) == list(range(0, 2500, 25))  # each frame once, over both runs


def test_a_stop_counts_no_attempt_against_a_row(tmp_path: Path) -> None:
    bench = slow_bench(tmp_path, FILM, *rows(20))
    bench.push(until_s=bench.now_s + 1, batch_frames=1)
    assert all(record.attempts == 0 for record in bench.ledger.records(bench.last.plan.job).values())


def test_a_run_whose_time_is_over_before_it_begins_takes_up_nothing(tmp_path: Path) -> None:
    bench = slow_bench(tmp_path, *rows(3))
    run = bench.push(until_s=bench.now_s)
    assert (held(run), bench.inference.asked, bench.states()) == ({Limit.MAX_MINUTES: 3}, [], {})


def test_rows_whose_files_are_not_to_be_had_are_not_held_back_by_the_time(tmp_path: Path) -> None:
    bench = slow_bench(tmp_path, *rows(3))
    bench.platform.unreadable["row-00"] = TransientServiceError("503")
    run = bench.push(until_s=bench.now_s + 1000)
    assert (held(run), run.summary()["pending"]) == ({}, 1)


# The daily cap


def test_a_daily_cap_is_exact_and_rows_over_it_stay_inferred(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(10)), ScriptedInference(cars=2))
    run = bench.push(max_objects_a_day=7)
    assert (run.tally.labelled, run.tally.objects.total()) == (3, 6)
    assert held(run) == {Limit.MAX_OBJECTS_A_DAY: 7}
    assert set(bench.states().values()) == {State.DONE, State.INFERRED}


def test_where_the_first_row_that_is_inferred_does_not_fit_the_cap_nothing_is_begun(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(5)), ScriptedInference(cars=2))
    bench.push(max_objects_a_day=7)
    plan = bench.plan(max_objects_a_day=7)
    assert (plan.is_idle, plan.held_back, plan.total) == (True, {Limit.MAX_OBJECTS_A_DAY: 2}, 5)
    assert bench.push(max_objects_a_day=8).tally.labelled == 1


def test_the_day_after_nothing_is_inferred_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(10)), ScriptedInference(cars=2))
    bench.push(max_objects_a_day=6)
    assert bench.push(max_objects_a_day=6).plan.is_idle
    bench.now_s += DAY_S + 1
    assert bench.push(max_objects_a_day=6).tally.labelled == 3
    bench.now_s += DAY_S + 1
    bench.push()
    assert len(bench.platform.main) == sum(map(len, bench.inference.asked)) == 10


def test_a_row_with_more_objects_than_the_cap_is_written_when_nothing_else_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(2)), ScriptedInference(cars=3))
    assert bench.push(max_objects_a_day=2).tally.labelled == 1
    bench.now_s += DAY_S + 1
    assert bench.push(max_objects_a_day=2).tally.labelled == 1


def test_with_the_cap_used_up_a_run_takes_up_nothing_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(4)))
    bench.push(max_objects_a_day=2, limit=2)
    plan = bench.plan(max_objects_a_day=2)
    assert (plan.is_idle, plan.held_back, plan.total) == (True, {Limit.MAX_OBJECTS_A_DAY: 2}, 4)
    assert plan.notes == ("daily cap: 2 of 2 objects were written in the last 24 hours: 2 rows are held back",)


def test_a_write_that_was_announced_is_finished_over_the_cap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)))
    bench.platform.fail_next_write = TransientServiceError("503")
    with pytest.raises(TransientServiceError):
        bench.push(limit=2)
    run = bench.push(max_objects_a_day=1)
    assert (run.tally.labelled, held(run)) == (2, {Limit.MAX_OBJECTS_A_DAY: 1})


def test_rows_on_which_nothing_is_found_pass_a_cap(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(5)), ScriptedInference(cars=0))
    assert bench.push(max_objects_a_day=1).tally.empty == 5


# The backlog brake


def test_a_brake_fills_the_annotators_queue_up_to_what_may_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(10)))
    run = bench.push(max_waiting=4)
    assert (run.tally.labelled, held(run)) == (4, {Limit.MAX_WAITING: 6})
    assert bench.plan(max_waiting=4).notes == (
        "brake: 4 pre-labelled rows wait at Annotate, at most 4 may: 6 rows are held back",
    )
    moved = bench.platform.listed["row-00"]
    bench.platform.listed["row-00"] = make_row("row-00", label_hash=moved.label_hash, stage_uuid=REVIEW.uuid)
    assert bench.push(max_waiting=4).tally.labelled == 1


def test_a_brake_counts_the_whole_project_also_where_a_run_is_for_one_dataset(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([*rows(3), make_row("other", dataset_title="another")]))
    bench.push(dataset="ds")
    assert bench.plan(max_waiting=3, dataset="another").held_back == {Limit.MAX_WAITING: 1}


def test_nobody_waits_for_what_a_person_skipped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(10)))
    bench.push(max_waiting=4)
    bench.platform.skips.add("row-00")
    assert bench.push(max_waiting=4).tally.labelled == 1


def test_nobody_waits_for_what_goes_to_a_branch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(4)))
    bench.push(limit=2)
    assert bench.push(max_waiting=2, destination="branch").tally.labelled == 2


def test_a_limit_of_rows_comes_before_the_brake(tmp_path: Path) -> None:
    plan = Bench(tmp_path, FakePlatform(rows(10))).plan(limit=5, max_waiting=3)
    assert (len(plan.todo), plan.beyond_limit, plan.held_back) == (3, 5, {Limit.MAX_WAITING: 2})


def test_under_a_brake_tasks_at_the_agent_stage_with_nothing_to_label_still_move_on(tmp_path: Path) -> None:
    platform = agent_platform(make_row("there", stage_uuid=ANNOTATE.uuid), waiting("free"), waiting("bad"))
    bench = Bench(tmp_path, platform)
    platform.refuses.add("bad")
    platform.immovable.add("bad")
    bench.push()
    platform.immovable.clear()
    platform.listed["new"] = waiting("new")
    run = bench.push(max_waiting=1)
    assert held(run) == {Limit.MAX_WAITING: 1}
    assert ("bad", "way-1") in platform.moved
    assert platform.listed["new"].stage_uuid != ANNOTATE.uuid
