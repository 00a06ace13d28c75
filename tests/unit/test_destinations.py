"""Where labels go: which destination, which tasks, in which order people and machine have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autolabel.core.rows import Destination, LabelRow, Pathway, Reason, RowContent
from autolabel.errors import PermanentUsageError, TransientServiceError
from autolabel.plan import LOOK_AGAIN_S
from autolabel.states import State
from benches import Bench, adds_up, agent_platform, rows, waiting
from platform_fakes import AGENT, ANNOTATE, CAR, DONE, REVIEW, FakePlatform, ScriptedInference, make_project, make_row

DIRECT = "agent-stage"
EMPTY = RowContent({}, False)
DRAWN = RowContent({"human": CAR.feature_hash}, False)


def test_an_agent_stage_before_people_is_the_destination_unless_another_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, agent_platform(waiting("a")))
    plan = bench.plan()
    assert (plan.job.destination, "Pre-label before people" in plan.why) == (DIRECT, True)
    assert bench.plan(destination=Destination.MAIN).job.destination == "main"


def test_without_an_agent_stage_labels_go_to_main(tmp_path: Path) -> None:
    assert Bench(tmp_path, FakePlatform(rows(1))).plan().job.destination == "main"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"destination": Destination.AGENT_STAGE}, "no Agent stage that is clearly ours; it has none"),
        ({"pull_from": "Annotate"}, "goes with --to agent-stage and not with --to main"),
        ({"destination": Destination.BRANCH, "include_assigned": True}, "goes with --to main alone"),
    ],
)
def test_options_that_do_not_go_with_a_workflow_without_agent_stage_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(PermanentUsageError, match=message):
        Bench(tmp_path, FakePlatform(rows(1))).plan(**options)


def test_assigned_tasks_are_never_taken_at_the_agent_stage(tmp_path: Path) -> None:
    with pytest.raises(PermanentUsageError, match="--to agent-stage takes no task that a person has"):
        Bench(tmp_path, agent_platform(waiting("a"))).plan(include_assigned=True)


@pytest.mark.parametrize("title", ["Review", "Pre-label", "nowhere"])
def test_tasks_are_pulled_from_annotation_stages_alone(tmp_path: Path, title: str) -> None:
    with pytest.raises(PermanentUsageError, match=f"no annotation stage called '{title}'.*it has 'Annotate'"):
        Bench(tmp_path, agent_platform(waiting("a"))).plan(pull_from=title)


def test_at_the_agent_stage_labels_go_straight_to_main_and_then_the_task_moves_on(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"))
    run = Bench(tmp_path, platform).push()
    assert platform.writes == ["save a on main", "move a"]
    assert (run.tally.labelled, platform.branch) == (1, {})


def test_only_tasks_at_the_agent_stage_are_taken_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path, agent_platform(waiting("a"), make_row("b"), waiting("c", assigned_to="a@b.c")))
    run = bench.push()
    assert run.summary()["left_alone"] == {Reason.WRONG_STAGE: 1, Reason.ASSIGNED: 1}
    assert set(bench.platform.main) == {"a"}
    assert adds_up(run)


def test_a_row_that_was_opened_and_holds_nothing_is_taken_at_the_agent_stage_alone(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a", label_hash="l"))
    platform.human["a"] = EMPTY
    bench = Bench(tmp_path, platform)
    assert bench.plan(destination=Destination.MAIN).left_alone[0][1] == Reason.HAS_ROW_EMPTY
    assert bench.push().tally.labelled == 1


def test_a_row_of_ours_that_people_emptied_is_not_filled_again(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"))
    bench = Bench(tmp_path, platform)
    bench.push(destination=Destination.MAIN)
    platform.human["a"], platform.listed["a"] = EMPTY, replace(platform.listed["a"], stage_uuid=AGENT.uuid)
    assert bench.push().summary()["left_alone"] == {Reason.HAS_ROW_EMPTY: 1}


def test_a_row_that_somebody_fills_before_the_save_stays_theirs_and_its_task_moves_on(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"), waiting("b"))
    platform.before_save = lambda: platform.human.update({"b": DRAWN})
    run = Bench(tmp_path, platform).push()
    assert (run.tally.labelled, run.tally.left_alone) == (1, {Reason.HUMAN_CONTENT: 1})
    assert {name for name, _ in platform.moved} == {"a", "b"}


def test_new_tasks_are_pulled_labelled_and_sent_back(tmp_path: Path) -> None:
    platform = agent_platform(make_row("opened", label_hash="l"), make_row("fresh"))
    platform.human["opened"] = EMPTY
    bench = Bench(tmp_path, platform)
    assert bench.plan(pull_from="Annotate").tasks_to_pull == 2
    bench.push(pull_from="Annotate")
    assert [platform.listed[name].stage_uuid for name in ("opened", "fresh")] == [ANNOTATE.uuid] * 2
    assert set(platform.main) == {"opened", "fresh"}
    assert "pull fresh" in platform.writes


def test_nothing_is_pulled_to_a_stage_whose_pathway_leads_past_all_people(tmp_path: Path) -> None:
    past = replace(AGENT, pathways=(Pathway("way-1", "finish", DONE.uuid),))
    platform = FakePlatform([make_row("a")], make_project(past, ANNOTATE, REVIEW, DONE))
    with pytest.raises(PermanentUsageError, match="'finish', past all people"):
        Bench(tmp_path, platform).plan(agent_stage=AGENT.title, pull_from="Annotate")


def test_what_has_no_labels_to_write_is_never_pulled(tmp_path: Path) -> None:
    platform = agent_platform(make_row("a"), make_row("sound", data_type="audio"))
    run = Bench(tmp_path, platform, ScriptedInference(cars=0)).push(pull_from="Annotate")
    assert (run.tally.empty, platform.writes) == (1, [])


def test_tasks_that_people_have_or_had_are_not_pulled(tmp_path: Path) -> None:
    platform = agent_platform(make_row("has", assigned_to="a@b.c"), make_row("had"), make_row("skipped"))
    platform.not_new, platform.skips = {"had"}, {"skipped"}
    run = Bench(tmp_path, platform).push(pull_from="Annotate")
    assert platform.writes == []
    assert run.summary()["left_alone"] == {
        Reason.ASSIGNED: 1,
        Reason.TASK_NOT_NEW: 1,
        Reason.SKIPPED_BY_HUMAN: 1,
    }


def test_a_task_that_a_person_takes_before_it_is_pulled_stays_theirs(tmp_path: Path) -> None:
    platform = agent_platform(make_row("a"), make_row("b"))

    def take() -> None:
        platform.listed["a"] = replace(platform.listed["a"], assigned_to="a@b.c")

    platform.before_pull = take
    run = Bench(tmp_path, platform).push(pull_from="Annotate")
    assert (run.tally.labelled, run.tally.left_alone) == (1, {Reason.ASSIGNED: 1})
    assert platform.listed["a"].stage_uuid == ANNOTATE.uuid


@pytest.mark.parametrize("options", [{}, {"pull_from": "Annotate"}], ids=["agent stage", "pulled again"])
def test_a_push_that_dies_after_it_pulled_is_finished_by_the_next_one(
    tmp_path: Path, options: dict[str, object]
) -> None:
    platform = agent_platform(make_row("a"), make_row("b"))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("killed here")
    with pytest.raises(TransientServiceError):
        bench.push(pull_from="Annotate")
    assert {row.stage_uuid for row in platform.listed.values()} == {AGENT.uuid}
    assert bench.push(**options).tally.labelled == 2
    assert {row.stage_uuid for row in platform.listed.values()} == {ANNOTATE.uuid}


def test_a_task_that_was_pulled_goes_back_even_where_a_tab_has_filled_its_row_meanwhile(tmp_path: Path) -> None:
    platform = agent_platform(make_row("a"))
    bench = Bench(tmp_path, platform)
    platform.fail_next_write = TransientServiceError("killed here")
    with pytest.raises(TransientServiceError):
        bench.push(pull_from="Annotate")
    platform.human["a"], platform.listed["a"] = DRAWN, replace(platform.listed["a"], label_hash="l")
    bench.push()
    assert platform.listed["a"].stage_uuid == ANNOTATE.uuid
    assert "a" not in platform.main


class ReadingPlatform(FakePlatform):
    """Notes which rows were read."""

    def __init__(self, rows: Sequence[LabelRow]) -> None:
        super().__init__(rows)
        self.read: list[str] = []

    def contents(self, rows: Sequence[LabelRow]) -> dict[str, RowContent]:
        self.read += [row.data_hash for row in rows]
        return super().contents(rows)


def push_again_later(bench: Bench, **options: object) -> dict[str, object]:
    bench.now_s += LOOK_AGAIN_S + 1
    return bench.push(**options).summary()


@pytest.mark.parametrize("theirs", [("human",), ()], ids=["replaced", "emptied"])
def test_a_done_row_that_people_replaced_is_reported_and_never_fought(
    tmp_path: Path, theirs: tuple[str, ...]
) -> None:
    platform = FakePlatform(rows(2))
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.edit("row-00", *theirs)
    writes = list(platform.writes)
    for _ in range(2):
        summary = push_again_later(bench)
        assert (summary["left_alone"], summary["done_before"]) == ({Reason.REPLACED_BY_HUMAN: 1}, 1)
    assert (platform.writes, bench.states()["row-00"]) == (writes, State.LEFT_ALONE)


def test_a_done_row_of_the_agent_stage_that_people_emptied_is_not_filled_again(tmp_path: Path) -> None:
    platform = agent_platform(waiting("a"))
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.edit("a")
    platform.listed["a"] = replace(platform.listed["a"], stage_uuid=AGENT.uuid)
    assert push_again_later(bench)["left_alone"] == {Reason.REPLACED_BY_HUMAN: 1}
    assert platform.writes == ["save a on main", "move a"]


def test_a_done_row_on_which_people_work_stays_done_and_is_read_once_a_change(tmp_path: Path) -> None:
    platform = ReadingPlatform(rows(2))
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.edit("row-00", *platform.main["row-00"], "human")
    assert [push_again_later(bench)["done_before"] for _ in range(3)] == [2, 2, 2]
    assert platform.read == ["row-00"]


def test_a_row_is_not_looked_at_again_within_ten_minutes(tmp_path: Path) -> None:
    platform = ReadingPlatform(rows(1))
    bench = Bench(tmp_path, platform)
    bench.push()
    platform.edit("row-00", "human")
    assert bench.push().summary()["done_before"] == 1
    assert platform.read == []


def test_assigned_tasks_are_labelled_on_main_when_asked_for_and_stay_assigned(tmp_path: Path) -> None:
    platform = FakePlatform([make_row("a", assigned_to="a@b.c"), make_row("b")])
    bench = Bench(tmp_path, platform)
    assert bench.push().summary()["left_alone"] == {Reason.ASSIGNED: 1}
    assert bench.push(include_assigned=True).tally.labelled == 1
    assert (platform.listed["a"].assigned_to, bench.states()["a"]) == ("a@b.c", State.DONE)
