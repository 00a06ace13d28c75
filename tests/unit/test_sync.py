"""The sync against an in-memory platform: what is written, what is left alone, what a stopped run leaves behind."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from autolabel.core.identity import object_hash
from autolabel.core.rows import Destination, LabelRow, Pathway, Reason, RowContent
from autolabel.errors import (
    Interrupted,
    PermanentFloodError,
    PermanentMediaError,
    PermanentModelError,
    PermanentUsageError,
    TransientMediaError,
    TransientServiceError,
)
from autolabel.ledger import LEASE_S
from autolabel.plan import Options
from autolabel.protocols import Clip
from autolabel.states import State
from autolabel.sync import Ports, Run
from autolabel.tally import OVERTAKEN, Tally
from benches import Bench, adds_up, agent_platform, rows, waiting
from platform_fakes import (
    AGENT,
    ANNOTATE,
    CAR,
    DONE,
    RECIPE,
    REVIEW,
    FakeGallery,
    FakePlatform,
    ScriptedInference,
    make_project,
    make_row,
)


def test_a_push_labels_every_free_row_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(5)))
    run = bench.push()
    assert run.tally.labelled == 5
    assert set(bench.platform.main) == {f"row-{i:02}" for i in range(5)}
    assert bench.platform.main["row-00"] == (object_hash(RECIPE.id, "row-00", CAR.feature_hash, 0),)
    assert adds_up(run)


def test_a_second_push_writes_nothing_and_infers_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(5)))
    bench.push()
    writes, asked = list(bench.platform.writes), len(bench.inference.asked)
    run = bench.push()
    assert (bench.platform.writes, len(bench.inference.asked)) == (writes, asked)
    assert run.summary()["done_before"] == 5
    assert adds_up(run)


def test_rows_without_detections_are_done_and_nothing_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)), ScriptedInference(cars=0))
    run = bench.push()
    assert (run.tally.empty, bench.platform.writes) == (3, [])
    assert set(bench.states().values()) == {State.DONE}


def test_a_row_that_a_person_opens_during_the_push_is_left_alone(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    bench = Bench(tmp_path, platform)
    platform.before_copy = lambda: platform.human.update({"row-01": RowContent({"human": CAR.feature_hash}, False)})
    run = bench.push()
    assert (run.tally.labelled, run.tally.left_alone) == (2, {Reason.HUMAN_CONTENT: 1})
    assert "row-01" not in platform.main


def test_rows_left_alone_are_never_downloaded(tmp_path: Path) -> None:
    taken = make_row("taken", label_hash="l1")
    platform = FakePlatform([taken, make_row("free"), make_row("assigned", assigned_to="a@b.c")])
    platform.human["taken"] = RowContent({"human": CAR.feature_hash}, False)
    bench = Bench(tmp_path, platform)
    run = bench.push()
    assert bench.inference.asked == [["free"]]
    assert adds_up(run)
    assert run.summary()["left_alone"] == {Reason.HUMAN_CONTENT: 1, Reason.ASSIGNED: 1}


def test_higher_priority_goes_first(tmp_path: Path) -> None:
    platform = FakePlatform([make_row("low", priority=0.1), make_row("high", priority=0.9)])
    bench = Bench(tmp_path, platform)
    bench.push(limit=1)
    assert list(platform.main) == ["high"]


def test_a_limit_leaves_the_rest_pending_for_the_next_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(5)))
    first = bench.push(limit=2)
    assert (first.tally.labelled, first.summary()["pending"]) == (2, 3)
    assert adds_up(first)
    assert bench.push().tally.labelled == 3


def test_a_flood_stops_the_run_before_any_write_and_names_the_class(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(25)), ScriptedInference(cars=3, dropped=7))
    with pytest.raises(PermanentFloodError, match="'Car' hit its cap of 3 instances on 20 of the first 20 frames"):
        bench.push()
    assert bench.platform.writes == []


def test_after_a_lost_connection_the_next_run_finishes_without_inferring_again(tmp_path: Path) -> None:
    platform = FakePlatform(rows(4))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("503")
    with pytest.raises(TransientServiceError):
        bench.push()
    assert set(bench.states().values()) == {State.INTENT}
    assert adds_up(bench.last)
    asked = len(bench.inference.asked)
    assert bench.push().tally.labelled == 4
    assert len(bench.inference.asked) == asked


def test_a_row_that_kills_the_worker_is_set_aside_and_the_others_are_labelled(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(4)), ScriptedInference(poison=frozenset({"row-02"})))
    run = bench.push()
    assert (run.tally.labelled, run.tally.set_aside) == (3, {Reason.CRASH: 1})
    assert adds_up(run)
    assert bench.push().summary()["set_aside"] == {Reason.CRASH: 1}


def test_rows_set_aside_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    platform = FakePlatform(rows(2))
    platform.refuses = {"row-00"}
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.refuses = set()
    assert bench.push().tally.labelled == 0
    assert bench.push(retry_failed=True).tally.labelled == 1


def test_an_unreadable_picture_is_set_aside_with_its_reason_and_message(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    platform.unreadable["row-01"] = PermanentMediaError(Reason.TOO_LARGE, "too many bytes")
    run = Bench(tmp_path, platform).push()
    assert (run.tally.labelled, run.tally.set_aside) == (2, {Reason.TOO_LARGE: 1})
    assert run.tally.messages == ["row-01.png: too many bytes"]


def test_a_download_that_fails_while_the_platform_is_out_of_reach_is_no_rows_fault(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    platform.unreadable["row-01"] = TransientServiceError("reset")
    bench = Bench(tmp_path, platform)
    for labelled in (2, 0, 0, 0):
        run = bench.push()
        assert (run.tally.labelled, run.summary()["pending"]) == (labelled, 1)
        assert adds_up(run)
    platform.unreadable.clear()
    assert bench.push().tally.labelled == 1


def test_a_download_that_fails_in_three_runs_sets_its_row_aside_until_it_is_asked_for(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    platform.unreadable["row-01"] = TransientMediaError("the download answered 410")
    bench = Bench(tmp_path, platform)
    assert [bench.push().summary()["pending"] for _ in range(3)] == [1, 1, 0]
    assert bench.last.summary()["set_aside"] == {Reason.DOWNLOAD: 1}
    assert bench.last.tally.messages == [
        "row-01.png: the download answered 410, in 3 runs; --retry-failed takes it up again"
    ]
    assert bench.push(retry_failed=True).summary()["pending"] == 1
    platform.unreadable.clear()
    assert bench.push().tally.labelled == 1


def test_a_task_at_the_agent_stage_whose_file_is_never_to_be_had_is_handed_to_people(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"))
    platform.unreadable["a"] = TransientMediaError("the download broke off")
    bench = Bench(tmp_path, platform)
    assert [(bench.push().id, list(platform.moved)) for _ in range(3)][1:] == [
        ("run-2", []),
        ("run-3", [("a", "way-1")]),
    ]


def test_a_full_disk_ends_the_run_and_no_row_is_blamed(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    platform.unreadable["row-01"] = OSError(errno.ENOSPC, "No space left on device")
    bench = Bench(tmp_path, platform)
    with pytest.raises(OSError, match="No space left"):
        bench.push()
    assert State.SET_ASIDE not in bench.states().values()
    platform.unreadable.clear()
    assert bench.push().tally.labelled == 3


def test_a_branch_push_leaves_main_alone_and_main_later_costs_no_inference(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)))
    bench.push(destination=Destination.BRANCH)
    assert (len(bench.platform.branch), bench.platform.main) == (3, {})
    asked = len(bench.inference.asked)
    assert bench.push().tally.labelled == 3
    assert len(bench.inference.asked) == asked


def test_tasks_at_the_agent_stage_move_on_whatever_the_outcome(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"), waiting("b"), waiting("sound", data_type="audio"))
    platform.refuses = {"b"}
    run = Bench(tmp_path, platform).push()
    assert {name for name, _ in platform.moved} == {"a", "b", "sound"}
    assert adds_up(run)


def test_a_task_with_peoples_work_is_moved_only_from_a_stage_named_as_ours(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"), waiting("theirs", label_hash="l"))
    platform.human["theirs"] = RowContent({"human": CAR.feature_hash}, False)
    bench = Bench(tmp_path, platform)
    bench.push()
    assert [name for name, _ in platform.moved] == ["a"]
    bench.push(agent_stage=AGENT.title)
    assert [name for name, _ in platform.moved] == ["a", "theirs"]


def test_a_done_row_that_comes_back_to_the_agent_stage_is_handed_on_again(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"))
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.listed["a"] = replace(platform.listed["a"], stage_uuid=AGENT.uuid)
    bench.push()
    assert [name for name, _ in platform.moved] == ["a", "a"]


def test_a_task_that_does_not_move_stops_no_other_and_is_settled_later(tmp_path: Path) -> None:
    platform = agent_platform(*(waiting(f"row-{i}") for i in range(5)))
    platform.immovable = {"row-2"}
    bench = Bench(tmp_path, platform)
    run = bench.push(write_rows=2)
    assert (run.tally.labelled, run.summary()["pending"]) == (4, 1)
    assert bench.states("agent-stage")["row-2"] == State.WRITTEN
    platform.immovable = set()
    assert bench.push().tally.labelled == 1


def test_pathways_must_be_named_only_where_a_task_takes_one(tmp_path: Path) -> None:
    forked = replace(AGENT, pathways=(*AGENT.pathways, Pathway("way-2", "review", REVIEW.uuid)))
    platform = FakePlatform([waiting("a")], make_project(forked, ANNOTATE, REVIEW, DONE))
    bench = Bench(tmp_path, platform)
    with pytest.raises(PermanentUsageError, match="AUTOLABEL_PATHWAYS__LABELLED to one of: annotate, review"):
        bench.plan()
    assert bench.plan(destination=Destination.BRANCH).tasks_to_move == 0
    ways = {"labelled": "review", "empty": "annotate", "failed": "annotate"}
    bench.push(pathways=ways)
    assert platform.moved == [("a", "way-2")]


def test_an_agent_stage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentUsageError, match=r"no Agent stage called 'Nope'.*it has 'Pre-label'"):
        Bench(tmp_path, agent_platform(waiting("a"))).plan(agent_stage="Nope")


def test_a_row_skipped_or_submitted_after_a_killed_write_is_left_alone(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("killed here")
    with pytest.raises(TransientServiceError):
        bench.push()
    platform.skips = {"row-00"}
    platform.listed["row-01"] = replace(platform.listed["row-01"], stage_uuid=REVIEW.uuid)
    run = bench.push()
    assert set(platform.main) == {"row-02"}
    assert run.summary()["left_alone"] == {Reason.SKIPPED_BY_HUMAN: 1, Reason.WRONG_STAGE: 1}


def test_rows_that_vanish_from_the_project_do_not_stay_open_in_the_ledger(tmp_path: Path) -> None:
    platform = FakePlatform(rows(2))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("killed here")
    with pytest.raises(TransientServiceError):
        bench.push()
    del platform.listed["row-00"]
    bench.push()
    assert bench.states() == {"row-00": State.LEFT_ALONE, "row-01": State.DONE}


def test_a_picture_that_the_models_cannot_take_is_set_aside_alone(tmp_path: Path) -> None:
    run = Bench(tmp_path, FakePlatform(rows(3)), ScriptedInference(odd=frozenset({"row-01"}))).push()
    assert (run.tally.labelled, run.tally.set_aside) == (2, {Reason.INVALID_OUTPUT: 1})


def test_models_that_can_take_no_picture_end_the_run_instead_of_setting_all_rows_aside(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, FakePlatform(rows(3)), ScriptedInference(odd=frozenset({"row-00", "row-01", "row-02", "blank"}))
    )
    with pytest.raises(PermanentModelError, match="neither for 3 label rows in succession nor for a blank picture"):
        bench.push()
    assert State.SET_ASIDE not in bench.states().values()


def test_three_bad_rows_at_the_head_of_the_queue_do_not_stop_the_others(tmp_path: Path) -> None:
    films = [film(f"film-{i}", frames=3) for i in range(6)]
    run = Bench(
        tmp_path, FakePlatform(films), ScriptedInference(odd=frozenset({"film-0", "film-1", "film-2"}))
    ).push()
    assert (run.tally.labelled, run.tally.set_aside) == (3, {Reason.INVALID_OUTPUT: 3})


def test_a_single_row_is_not_blamed_for_models_that_answer_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(1)), ScriptedInference(odd=frozenset({"row-00", "blank"})))
    with pytest.raises(PermanentModelError, match="so no row is blamed"):
        bench.push()
    assert set(bench.states().values()) == {State.LEASED}


def test_a_task_that_a_person_took_meanwhile_is_not_moved_on(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"), waiting("b"))
    taken = replace(platform.listed["a"], assigned_to="a@b.c")
    platform.before_save = lambda: platform.listed.update(a=taken)
    run = Bench(tmp_path, platform).push(destination=Destination.AGENT_STAGE)
    assert (run.tally.labelled, run.tally.left_alone) == (1, {Reason.ASSIGNED: 1})
    assert [key for key, _ in platform.moved] == ["b"]


def test_a_device_without_memory_ends_the_run_instead_of_setting_all_rows_aside(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)))
    bench.inference.has_memory = False
    with pytest.raises(PermanentModelError, match="no memory for one frame"):
        bench.push()
    assert State.SET_ASIDE not in bench.states().values()
    bench.inference.has_memory = True
    assert bench.push().tally.labelled == 3


def test_a_row_under_which_whole_runs_die_is_given_up_in_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(2)))
    bench.ledger.start_run("dead", bench.plan().job, "Cars", {})
    bench.ledger.claim(bench.plan().job, "dead", ["row-00"], {})
    for _ in range(5):
        bench.ledger.start_attempt(bench.plan().job, "dead", ["row-00"])
    run = bench.push()
    assert (run.tally.labelled, run.tally.set_aside) == (1, {Reason.CRASH: 1})
    assert bench.push(retry_failed=True).tally.labelled == 1


def test_a_run_that_starts_while_another_works_takes_up_what_that_one_has_not_claimed(tmp_path: Path) -> None:
    platform = FakePlatform(rows(60))
    bench = Bench(tmp_path, platform, alive=True)
    runs: list[Run] = []
    few: dict[str, object] = {
        "write_rows": 5,
        "download_threads": 2,
        "batch_frames": 2,
    }  # so that not all are claimed

    def another() -> None:
        platform.before_copy = lambda: None
        runs.append(bench.push(**few))

    platform.before_copy = another
    first = bench.push(**few)
    assert all(map(adds_up, (first, *runs)))
    assert [run.tally.labelled for run in (first, *runs)] == [60 - runs[0].tally.labelled, runs[0].tally.labelled]
    assert 0 < runs[0].tally.labelled < 60
    assert (runs[0].summary()["pending"], first.summary()["pending"]) == (0, 0)
    once = [f"{what} {row.data_hash}" for what in ("save", "copy") for row in rows(60)]
    assert sorted(platform.writes) == sorted(once)


def test_a_run_that_stood_still_leaves_its_rows_to_the_one_that_took_them_over(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    bench = Bench(tmp_path, platform, alive=True)
    runs: list[Run] = []

    def stall() -> None:
        platform.before_copy = lambda: None
        bench.now_s += LEASE_S + 1
        runs.append(bench.push())

    platform.before_copy = stall
    first = bench.push()
    assert (runs[0].tally.labelled, first.tally.labelled) == (3, 0)
    assert first.summary()["elsewhere"] == {OVERTAKEN: 3}
    assert adds_up(first)
    assert set(bench.states().values()) == {State.DONE}
    assert len(platform.writes) == 6


def test_a_holdout_is_left_to_people_and_is_the_same_on_every_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(60)))
    held = {row.data_hash for row, why in bench.plan(holdout=0.3).left_alone if why == Reason.HOLDOUT}
    bench.push(holdout=0.3)
    run = bench.push(holdout=0.3)
    assert 8 <= len(held) <= 28
    assert set(bench.platform.main) == {row.data_hash for row in rows(60)} - held
    assert run.summary()["left_alone"] == {Reason.HOLDOUT: len(held)}


def test_one_crowded_row_is_no_flood(tmp_path: Path) -> None:
    run = Bench(tmp_path, FakePlatform(rows(1)), ScriptedInference(cars=3, dropped=7)).push()
    assert (run.tally.labelled, run.tally.dropped_by_cap) == (1, {CAR.feature_hash: 7})


def test_objects_whose_mask_is_missing_are_left_out_and_counted(tmp_path: Path) -> None:
    (car,) = RECIPE.plan.classes
    recipe = replace(RECIPE, plan=replace(RECIPE.plan, classes=(replace(car, shape="polygon"),)))
    run = Bench(tmp_path, FakePlatform(rows(1)), ScriptedInference(cars=3), recipe).push()
    assert (run.tally.empty, run.summary()["dropped_without_mask"]) == (1, {CAR.feature_hash: 3})


def test_a_run_that_stops_says_so_in_its_record(tmp_path: Path) -> None:
    platform = FakePlatform(rows(1))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("503")
    with pytest.raises(TransientServiceError):
        bench.push()
    record = bench.ledger.run("run-1")
    assert record is not None
    assert json.loads(record["summary"])["stopped_by"] == "503"


def test_a_lost_ledger_does_not_label_rows_twice(tmp_path: Path) -> None:
    platform = FakePlatform(rows(3))
    Bench(tmp_path, platform).push()
    other = tmp_path / "other"
    other.mkdir()
    writes = list(platform.writes)
    run = Bench(other, platform).push()
    assert platform.writes == writes
    assert run.summary()["left_alone"] == {Reason.OURS_THIS_RECIPE: 3}


def test_looking_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)))
    assert len(bench.plan().todo) == 3
    assert (bench.platform.writes, bench.states()) == ([], {})


def test_progress_is_told_after_every_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(3)))
    seen: list[int] = []
    ports = Ports(bench.platform, bench.platform, bench.ledger, bench.inference, tmp_path)

    def note(tally: Tally) -> None:
        seen.append(tally.finished)

    Run(bench.plan(), RECIPE, ports, "run", FakeGallery()).execute(Options(write_rows=1), note)
    assert seen[-1] == 3


def film(name: str = "film", frames: int = 2500) -> LabelRow:
    return make_row(name, data_type="video", frames=frames, frames_per_second=25.0)


def test_a_video_is_looked_at_once_a_second_and_its_tracks_are_single_objects(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([film()]), ScriptedInference(cars=1))
    run = bench.push()
    assert bench.inference.indices == list(range(0, 2500, 25))
    assert (run.tally.labelled, run.tally.inferred_frames, run.tally.objects) == (1, 100, {CAR.feature_hash: 1})


def test_native_looks_at_every_frame(tmp_path: Path) -> None:
    recipe = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))
    bench = Bench(tmp_path, FakePlatform([film(frames=70)]), recipe=recipe)
    bench.push()
    assert bench.inference.indices == list(range(70))


def test_models_that_fail_on_three_videos_in_succession_end_the_run_and_no_video_is_blamed(tmp_path: Path) -> None:
    films = [film(f"film-{i}", frames=250) for i in range(5)]
    broken = ScriptedInference(odd=frozenset({"film-1", "film-2", "film-3", "film-4", "blank"}))
    bench = Bench(tmp_path, FakePlatform(films), broken)
    for _ in range(6):  # nor later, as what whole runs die of
        with pytest.raises(PermanentModelError, match=r"3 label rows .* shapes cannot be multiplied\. Nothing"):
            bench.push(write_rows=1)
        assert adds_up(bench.last)
    assert State.SET_ASIDE not in bench.states().values()
    bench.inference = ScriptedInference()
    assert bench.push().tally.labelled == 5


def test_videos_that_the_models_cannot_take_are_set_aside_once_another_is_answered(tmp_path: Path) -> None:
    films = [film(f"film-{i}", frames=250) for i in range(6)]
    odd = frozenset({"film-0", "film-1", "film-3", "film-5"})
    run = Bench(tmp_path, FakePlatform(films), ScriptedInference(odd=odd)).push()
    assert (run.tally.labelled, run.tally.set_aside) == (2, {Reason.INVALID_OUTPUT: 4})


def test_a_flood_on_a_few_videos_stops_the_run_before_it_has_looked_at_all_of_them(tmp_path: Path) -> None:
    films = [film(f"film-{i}", frames=3000) for i in range(6)]
    bench = Bench(tmp_path, FakePlatform(films), ScriptedInference(cars=3, dropped=7))
    with pytest.raises(PermanentFloodError, match=r"on 240 of the first 240 frames \(label rows: 2\)"):
        bench.push()
    assert (bench.platform.writes, len(bench.inference.indices)) == ([], 240)


def test_one_crowded_frame_in_each_of_many_videos_is_no_flood(tmp_path: Path) -> None:
    inference = ScriptedInference(cars=3, dropped=7)
    inference.crowded_until = 0
    run = Bench(tmp_path, FakePlatform([film(f"film-{i}", frames=250) for i in range(20)]), inference).push()
    assert (run.tally.labelled, run.tally.dropped_by_cap) == (20, {CAR.feature_hash: 140})


def test_a_run_that_ends_within_a_video_is_resumed_at_the_first_missing_chunk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([film()]))
    bench.inference.dies_at = 2000
    with pytest.raises(Interrupted):
        bench.push()
    before = list(bench.inference.indices)
    bench.inference.dies_at = None
    run = bench.push()
    assert bench.inference.indices == list(range(0, 2500, 25))
    assert (len(before), run.tally.inferred_frames, run.tally.labelled) == (64, 36, 1)


def test_a_video_that_fails_in_its_middle_is_set_aside_and_the_next_row_is_labelled(tmp_path: Path) -> None:
    recipe = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))
    bench = Bench(tmp_path, FakePlatform([film(), make_row("still")]), ScriptedInference(), recipe)
    bench.inference.fails_at = 40
    run = bench.push()
    assert (run.tally.labelled, run.tally.set_aside) == (1, {Reason.FRAME_COUNT: 1})
    assert max(bench.inference.indices) < 96  # one chunk of it was open already
    assert adds_up(run)


def test_an_image_group_has_an_instance_a_detection_on_its_frame(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([make_row("group", data_type="img_group", frames=3)]))
    run = bench.push()
    assert (run.tally.inferred_frames, run.tally.objects) == (3, {CAR.feature_hash: 3})


def test_objects_seen_on_too_few_frames_of_a_video_are_left_out_and_counted(tmp_path: Path) -> None:
    inference = ScriptedInference()
    inference.sees_until = 0
    run = Bench(tmp_path, FakePlatform([film()]), inference).push()
    assert (run.tally.empty, run.summary()["dropped_short_tracks"]) == (1, {CAR.feature_hash: 1})


def test_spooled_files_of_videos_and_groups_go_when_their_row_is_inferred(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([film(), make_row("group", data_type="img_group", frames=3)]))
    bench.push()
    assert [path.name for path in tmp_path.iterdir() if "ledger" not in path.name] == []


class CountingPlatform(FakePlatform):
    """Notes how many spooled files lie there at once, at most."""

    most_files = 0

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        clips = super().download(row, folder)
        self.most_files = max(self.most_files, sum("ledger" not in path.name for path in folder.iterdir()))
        return clips


def test_groups_of_many_pictures_do_not_pile_up_on_the_disk(tmp_path: Path) -> None:
    platform = CountingPlatform([make_row(f"group-{i}", data_type="img_group", frames=50) for i in range(40)])
    run = Bench(tmp_path, platform).push(batch_frames=50, write_rows=20, download_threads=4)
    assert run.tally.labelled == 40
    assert platform.most_files <= (4 + 2 * 7) * 50  # seven such groups are one request


def test_a_death_while_a_video_is_opened_is_a_strike_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform([film(), make_row("still")]), ScriptedInference(poison=frozenset({"film"})))
    run = bench.push()
    assert (run.tally.labelled, run.tally.set_aside) == (1, {Reason.CRASH: 1})


def test_what_a_run_finishes_is_shown_while_its_media_are_there_and_they_go_then(tmp_path: Path) -> None:
    platform = FakePlatform(rows(30))
    platform.unreadable["row-03"] = PermanentMediaError("decode", "no picture")
    platform.refuses.add("row-04")
    bench = Bench(tmp_path, platform)
    bench.push()
    assert bench.gallery.shown == {f"row-{i:02}": (1, True) for i in range(30) if i not in (3, 4)}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("row")] == []
