"""Undoing and explaining without a platform: which rows are taken back, which are left, and what the ledger says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autolabel.core.detections import Detection, FrameLabels, Mask
from autolabel.core.identity import object_hash
from autolabel.core.prompts import PromptPlan
from autolabel.core.rows import Destination, LabelRow, Reason, RowContent, Stage
from autolabel.errors import Interrupted, PermanentUsageError, TransientServiceError
from autolabel.ledger import Ledger
from autolabel.operate import Action, Step, Undo, Why, explain, read_run
from autolabel.plan import Options, make_plan
from autolabel.protocols import Receipt, Standing
from autolabel.states import Chunk, Job, Move, State
from ledgers import open_ledger
from platform_fakes import AGENT, ANNOTATE, CAR, RECIPE, REVIEW, FakePlatform, FakeRetractor, make_project, make_row

OURS = frozenset({"h1", "h2"})
BRANCH = RECIPE.branch


def job(destination: str = "main") -> Job:
    return Job("project-1", RECIPE.id, destination)


def wrote(ledger: Ledger, run: str, branch: str, *data_hashes: str, rate: float | None = None) -> None:
    """A run that got receipts for these rows, and is done with them."""
    mine = job("main" if branch == "main" else "branch")
    announced(ledger, run, mine, *data_hashes)
    receipt = Receipt(branch, "label", dict.fromkeys(OURS, CAR.feature_hash), "digest", samples_per_second=rate)
    ledger.move(mine, run, [Move(key, State.WRITTEN, receipt=receipt) for key in data_hashes])
    ledger.move(mine, run, [Move(key, State.DONE) for key in data_hashes])


def announced(ledger: Ledger, run: str, mine: Job, *data_hashes: str) -> None:
    ledger.start_run(run, mine, "Cars", RECIPE.to_json())
    ledger.claim(mine, run, data_hashes, ledger.records(mine))
    for state in (State.INFERRED, State.INTENT):
        ledger.move(mine, run, [Move(key, state) for key in data_hashes])


def stands(key: str = "a", stage: Stage = ANNOTATE, **changes: object) -> Standing:
    return replace(Standing(make_row(key, stage_uuid=stage.uuid), OURS), **changes)  # type: ignore[arg-type]


def undo(ledger: Ledger, retractor: FakeRetractor, run: str = "run") -> Undo:
    return Undo(read_run(ledger, run), make_project(AGENT, ANNOTATE, REVIEW), retractor, ledger, AGENT)


def assigned(row: LabelRow) -> LabelRow:
    return replace(row, assigned_to="annotator@example.com")


@pytest.mark.parametrize(
    ("standing", "via", "expected"),
    [
        (stands(stage=AGENT), False, Action.EDIT),
        (stands(stage=AGENT, row=assigned(stands(stage=AGENT).row)), True, Why.ASSIGNED),
        (stands(), False, Why.ELSEWHERE),
        (stands(), True, Action.MOVE_AND_EDIT),
        (stands(row=assigned(stands().row)), True, Why.ASSIGNED),
        (stands(stage=REVIEW), False, Why.ELSEWHERE),
        (stands(stage=AGENT, touched=frozenset({"h3"}), has_others=True), False, Action.EDIT),
        (stands(stage=AGENT, untouched=frozenset(), touched=OURS), False, Why.ALL_TOUCHED),
        (stands(stage=AGENT, untouched=frozenset()), False, Action.SETTLE),
        (stands(stage=AGENT, untouched=frozenset(), is_readable=False), False, Why.UNREADABLE),
        (None, False, Why.GONE),
    ],
)
def test_the_stage_decides_what_happens_on_main(
    tmp_path: Path, standing: Standing | None, via: bool, expected: Action | Why
) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    retractor = FakeRetractor({("main", "a"): standing} if standing else {})
    retractor.new = {"a"}
    step = undo(ledger, retractor).plan(via_agent_stage=via)[0]
    assert (step.why or step.action) == expected
    assert retractor.moves == []


@pytest.mark.parametrize("change", [{"touched": frozenset({"h3"})}, {"has_others": True}])
def test_our_branch_is_emptied_whole_or_left(tmp_path: Path, change: dict[str, object]) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", BRANCH, "a", "b")
    retractor = FakeRetractor({(BRANCH, "a"): stands(), (BRANCH, "b"): stands("b", **change)})
    work = undo(ledger, retractor)
    done = work.execute(work.plan(via_agent_stage=False))
    assert [(step.action, step.why) for step in done] == [(Action.EMPTY, None), (Action.LEAVE, Why.CHANGED)]
    assert {key: record.state for key, record in ledger.records(job("branch")).items()} == {
        "a": State.LEFT_ALONE,
        "b": State.DONE,
    }


def test_undoing_a_publish_leaves_our_branch_to_the_run_that_wrote_it(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "branch run", BRANCH, "a")
    wrote(ledger, "publish", "main", "a")
    retractor = FakeRetractor({(BRANCH, "a"): stands(), ("main", "a"): stands(stage=AGENT)})
    (step,) = undo(ledger, retractor, "publish").plan(via_agent_stage=False)
    assert (step.claim.branch, step.action) == ("main", Action.EDIT)


def test_rows_that_a_killed_run_announced_are_looked_for_on_both_branches(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    announced(ledger, "run", job(), "a")
    retractor = FakeRetractor({(BRANCH, "a"): stands(), ("main", "a"): stands(untouched=frozenset())})
    work = undo(ledger, retractor)
    steps = work.execute(work.plan(via_agent_stage=False))
    assert {step.claim.branch: step.action for step in steps} == {BRANCH: Action.EMPTY, "main": Action.SETTLE}
    assert {step.claim.objects for step in steps} == {None}
    assert ledger.records(job())["a"].state == State.LEFT_ALONE
    assert work.plan(via_agent_stage=False) == []


def via(ledger: Ledger, retractor: FakeRetractor) -> list[Step]:
    retractor.new = {"a", "b"}
    work = undo(ledger, retractor)
    return work.execute([step for step in work.plan(via_agent_stage=True) if step.claim.branch == "main"])


def test_a_task_comes_back_even_where_the_platform_refuses_and_others_go_on(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a", "b")
    retractor = FakeRetractor({("main", "a"): stands(), ("main", "b"): stands("b")})
    retractor.refuses = {"a"}
    steps = via(ledger, retractor)
    assert [(step.action, step.why) for step in steps] == [(Action.LEAVE, Why.REFUSED), (Action.EDIT, None)]
    assert retractor.moves == [("a", AGENT.uuid), ("a", ANNOTATE.uuid), ("b", AGENT.uuid), ("b", ANNOTATE.uuid)]


def test_whoever_comes_between_the_plan_and_the_edit_keeps_the_row(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    retractor = FakeRetractor({("main", "a"): stands(stage=AGENT)})
    retractor.before_remove = lambda: retractor.standing.update({("main", "a"): stands()})
    (step,) = via(ledger, retractor)
    assert (step.why, retractor.standing["main", "a"].untouched) == (Why.ELSEWHERE, OURS)


def test_a_task_left_at_the_agent_stage_by_a_stopped_undo_is_put_back_by_the_next(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    retractor = FakeRetractor({("main", "a"): stands()})

    def outage() -> None:
        raise TransientServiceError("no answer")

    retractor.before_remove = outage
    with pytest.raises(TransientServiceError):
        via(ledger, retractor)
    retractor.before_remove = lambda: None
    work = undo(ledger, retractor)
    work.execute(work.plan(via_agent_stage=False))
    assert retractor.moves == [("a", AGENT.uuid), ("a", ANNOTATE.uuid)]
    assert ledger.records(job())["a"].state == State.LEFT_ALONE


def test_an_undo_that_was_killed_after_its_save_settles_what_people_keep(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    retractor = FakeRetractor({("main", "a"): stands(stage=AGENT, touched=frozenset({"h3"}))})
    retractor.dies_after_remove = True
    with pytest.raises(Interrupted):
        via(ledger, retractor)
    work = undo(ledger, retractor)
    assert [step.action for step in work.execute(work.plan(via_agent_stage=False))] == [Action.SETTLE, Action.LEAVE]
    assert ledger.records(job())["a"].state == State.LEFT_ALONE


def test_undone_rows_are_left_by_the_same_recipe_wherever_it_goes_and_taken_by_another(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", BRANCH, "a")
    ledger.end_undo(job("branch"), "run", "a", BRANCH, ends_row=True)
    platform = FakePlatform([make_row("a"), make_row("b")])
    other = replace(RECIPE, detector_digest="another")
    for destination in (Destination.BRANCH, Destination.MAIN):
        options = Options(destination=destination)
        plan = make_plan(platform, ledger, platform.project(), RECIPE, options)
        assert [(row.data_hash, why) for row, why in plan.left_alone] == [("a", Reason.UNDONE)]
        assert len(make_plan(platform, ledger, platform.project(), other, options).todo) == 2


def test_a_row_that_was_undone_at_the_agent_stage_goes_to_people_or_to_another_recipe(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    ledger.end_undo(job(), "run", "a", "main", ends_row=True)
    platform = FakePlatform([make_row("a", stage_uuid=AGENT.uuid, label_hash="l")], make_project(AGENT, ANNOTATE))
    platform.human["a"] = RowContent({}, has_human_work=False)
    same = make_plan(platform, ledger, platform.project(), RECIPE, Options())
    assert [(row.data_hash, way) for row, way in same.handed_over] == [("a", "empty")]
    other = make_plan(platform, ledger, platform.project(), replace(RECIPE, detector_digest="another"), Options())
    assert [row.data_hash for row in other.todo] == ["a"]


def drive(frame_index: int) -> FrameLabels:
    """A car that drives to the right."""
    left = 5.0 + frame_index
    mask = Mask((5, 5, 50, 40), b"counts", 0.75)
    car = Detection(CAR.feature_hash, "car", 0.9, (left, 5.0, left + 40, 40.0), mask)
    return FrameLabels(frame_index, 100, 50, (car,), {}, f"digest of {frame_index}")


@pytest.mark.parametrize(("rate", "frames"), [(None, [0]), (1.0, [0, 1]), (0.0, None)])
def test_an_object_is_explained_from_the_ledger_alone(
    tmp_path: Path, rate: float | None, frames: list[int] | None
) -> None:
    """Of pictures, of a video, and where an older release did not note which of the two it was."""
    ledger = open_ledger(tmp_path)
    name = object_hash(RECIPE.id, "a", CAR.feature_hash, 0)
    announced(ledger, "run", job(), "a")
    ledger.move(
        job(),
        "run",
        [
            Move(
                "a",
                State.WRITTEN,
                receipt=Receipt("main", "l", {name: CAR.feature_hash}, "", samples_per_second=rate),
            )
        ],
    )
    kept = Job("project-1", RECIPE.id, "branch")
    ledger.claim(kept, "run", ["a"], {})
    ledger.put_detections(kept, "run", [Chunk("a", [drive(0), drive(1)], ends_row=True)])
    told = explain(ledger, name)
    assert (told["class"]["name"], told["detector"]["digest"], told["segmenter"]) == (
        "Car",
        "digest-of-detector",
        None,
    )
    assert [(write["run"], write["branch"], write["undone_at"]) for write in told["written"]] == [
        ("run", "main", None)
    ]
    assert (told["frames"] and [found["frame"] for found in told["frames"]]) == frames
    for found in told["frames"] or ():
        assert (found["prompt"], found["score"], found["mask_score"]) == ("car", 0.9, 0.75)
        assert found["image_digest"] == f"digest of {found['frame']}"
    ledger.end_undo(job(), "run", "a", "main", ends_row=True)
    assert explain(ledger, name)["written"][0]["undone_at"] == 12.0


def test_labels_of_a_calibrated_recipe_are_explained_by_their_confidence(tmp_path: Path) -> None:
    ledger, cls = open_ledger(tmp_path), replace(RECIPE.plan.classes[0], calibration=((0.0, 0.0), (1.0, 0.5)))
    config = RECIPE.config.model_copy(update={"confidence": "calibrated"})
    mine = replace(RECIPE, config=config, plan=PromptPlan((cls,)))
    its_job, name = Job("project-1", mine.id, "main"), object_hash(mine.id, "a", CAR.feature_hash, 0)
    ledger.start_run("run", its_job, "Cars", mine.to_json())
    ledger.claim(its_job, "run", ["a"], {})
    ledger.put_detections(its_job, "run", [Chunk("a", [drive(0)], ends_row=True)])
    ledger.move(its_job, "run", [Move("a", State.INTENT)])
    receipt = Receipt("main", "l", {name: CAR.feature_hash}, "")
    ledger.move(its_job, "run", [Move("a", State.WRITTEN, receipt=receipt)])
    told = explain(ledger, name)
    assert (told["confidence"], [found["score"] for found in told["frames"]]) == ("calibrated", [0.45])


@pytest.mark.parametrize("name", ["AAAAAAAA", "", "%", CAR.feature_hash])
def test_an_object_that_is_not_ours_is_not_explained(tmp_path: Path, name: str) -> None:
    ledger = open_ledger(tmp_path)
    wrote(ledger, "run", "main", "a")
    with pytest.raises(PermanentUsageError, match="knows no object"):
        explain(ledger, name)
