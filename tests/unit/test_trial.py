"""A trial takes finished rows by hash, judges what a recipe finds there, and says what that comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autolabel.cli_trial import versus_lines
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.costs import Costs
from autolabel.evaluation.values import Difference, Estimate, TooFew, Worth
from autolabel.inferring import Eyes
from autolabel.judging import Judging
from autolabel.plan import Options
from autolabel.preview import preview
from autolabel.protocols import Clip, Drawn
from autolabel.tally import Tally
from autolabel.trial import Trial, conclude, described, find_finished, map_edits, plain, probing, versus
from ledgers import open_ledger
from platform_fakes import (
    ANNOTATE,
    CAR,
    DONE,
    RECIPE,
    REVIEW,
    FakePlatform,
    ScriptedInference,
    make_project,
    make_row,
)
from trials import make_reliability

A_CAR = Detection(CAR.feature_hash, "", 1.0, (5.0, 5.0, 50.0, 40.0))
"""Where the first car is that `ScriptedInference` finds."""


def finished_rows(count: int, **changes: object) -> list[LabelRow]:
    return [make_row(f"row-{i}", stage_uuid=DONE.uuid, label_hash=f"m-{i}", **changes) for i in range(count)]


def platform_of(rows: list[LabelRow], *cars: Detection) -> FakePlatform:
    platform = FakePlatform(rows)
    for row in rows:
        frames = tuple(FrameLabels(i, row.width_px, row.height_px, cars) for i in range(row.frames))
        platform.finished[row.data_hash] = Drawn(frames, 0, 0)
    return platform


def try_out(folder: Path, platform: FakePlatform, inference: ScriptedInference, rows: int = 50) -> Trial:
    finished = find_finished(platform, platform.project(), frozenset(), None, rows)
    judging, spool = Judging(RECIPE, finished.drawn, Costs()), folder / "spool"
    spool.mkdir()
    eyes = Eyes(platform.download, inference, open_ledger(folder), spool)
    tally = preview(probing(RECIPE), eyes, finished.rows, judging, Options(), lambda tally: None)
    return conclude("trial-1", finished, judging, tally, judging.rows)


def test_what_people_drew_and_the_recipe_finds_is_worth_it(tmp_path: Path) -> None:
    platform = platform_of(finished_rows(40), A_CAR)
    told = try_out(tmp_path, platform, ScriptedInference(cars=1))
    (cars,) = told.classes
    assert (cars.objects, cars.rows, cars.found, cars.verdict.worth) == (40, 40, 40, Worth.YES)
    assert cars.iou == Estimate(1.0, 1.0, 1.0)
    assert not isinstance(cars.precision, TooFew)
    assert cars.precision.box_ap == pytest.approx(1.0)
    assert told.rows == [(40, "judged")]
    assert platform.writes == []


def test_what_is_found_where_nothing_is_is_not_worth_it_and_is_switched_off(tmp_path: Path) -> None:
    elsewhere = Detection(CAR.feature_hash, "", 1.0, (60.0, 5.0, 90.0, 40.0))
    told = try_out(tmp_path, platform_of(finished_rows(40), elsewhere), ScriptedInference(cars=2))
    (cars,) = told.classes
    assert cars.verdict.worth == Worth.NO
    (edit,) = map_edits(told)
    assert (edit.name, edit.switched_off, edit.threshold, edit.calibration) == ("Car", True, None, None)
    assert told.confusion == {(CAR.feature_hash, None): 40, (None, CAR.feature_hash): 80}


def test_few_objects_give_no_figure_but_how_many_are_needed(tmp_path: Path) -> None:
    told = try_out(tmp_path, platform_of(finished_rows(12), A_CAR), ScriptedInference(cars=1))
    (cars,) = told.classes
    assert cars.verdict.worth == Worth.UNKNOWN
    assert str(cars.rates) == str(cars.precision) == "12 of 30 objects"
    assert map_edits(told) == []
    assert json.loads(json.dumps(described(told)))["classes"][0]["rates"] == {"too_few": "12 of 30 objects"}


def test_rows_are_those_of_the_stage_by_hash_and_without_labels_of_ours_first() -> None:
    at_work = [make_row("working", label_hash="m"), make_row("unopened", stage_uuid=DONE.uuid)]
    platform = platform_of([*finished_rows(8), *at_work])
    ours = {f"row-{i}" for i in range(5)}
    chosen = find_finished(platform, platform.project(), ours, None, 5)
    again = find_finished(platform, platform.project(), ours, None, 5)
    assert {"row-5", "row-6", "row-7"} <= {row.data_hash for row in chosen.rows}
    assert chosen == again
    assert len(chosen.prelabelled) == 2
    assert chosen.others == (
        (3, "finished too, beyond --rows"),
        (1, "at that stage, though nobody ever opened them"),
    )


def test_a_stage_without_finished_rows_or_of_no_such_name_is_refused() -> None:
    platform = platform_of(finished_rows(3))
    with pytest.raises(
        PermanentUsageError, match=r"no stage called 'Done'.*there are 'Annotate', 'Review', 'Complete'"
    ):
        find_finished(platform, platform.project(), frozenset(), "Done", 5)
    with pytest.raises(PermanentUsageError, match="no row at stage 'Review'"):
        find_finished(platform, platform.project(), frozenset(), REVIEW.title, 5)
    open_end = make_project(ANNOTATE, REVIEW)
    with pytest.raises(PermanentUsageError, match="no stage where tasks are complete"):
        find_finished(platform, open_end, frozenset(), None, 5)


def test_thresholds_are_lowered_to_look_and_never_raised() -> None:
    (cls,) = RECIPE.plan.classes
    low = replace(RECIPE, plan=replace(RECIPE.plan, classes=(replace(cls, threshold=0.02),)))
    assert [probing(recipe).plan.classes[0].threshold for recipe in (RECIPE, low)] == [0.05, 0.02]


def test_of_a_video_only_frames_on_which_people_drew_are_judged() -> None:
    row = make_row("film", data_type="video", frames=4, frames_per_second=1.0)
    drawn = {"film": Drawn(tuple(FrameLabels(i, 100, 50, (A_CAR,)) for i in (1, 3)), 0, 0)}
    judging = Judging(RECIPE, drawn, Costs())
    judging.add(row, (), [Clip("film", Path(), range(4), 100, 50, video_frames=4)])
    assert len(judging.frames([row])) == 2
    assert judging.unlabelled_frames == 2


def test_rows_that_cannot_be_judged_are_counted_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    platform = platform_of(finished_rows(3), A_CAR)
    with pytest.raises(PermanentUsageError, match=r"none of 3 finished rows could be judged.*3 not to be used"):
        try_out(tmp_path, platform, ScriptedInference(odd=frozenset({"row-0", "row-1", "row-2"})))


def test_two_variants_that_find_the_same_show_no_difference(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    platform = platform_of(finished_rows(40), A_CAR)
    a, b = (try_out(tmp_path / name, platform, ScriptedInference(cars=1)) for name in "ab")
    found = versus(("a.yaml", "b.yaml"), (a, b)).differences[CAR.feature_hash]
    assert "no difference shown" in str(plain(found))


def test_numbers_become_json_and_what_is_not_known_becomes_null() -> None:
    assert plain({"a": np.array([0.5, np.nan]), "b": (np.int64(3), TooFew(1, 2, "rows"))}) == {
        "a": [0.5, None],
        "b": [3.0, {"too_few": "1 of 2 rows"}],
    }
    assert plain(Tally().messages) == []


def test_a_class_that_one_variant_leaves_to_people_is_compared_as_found_never(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    platform = platform_of(finished_rows(40), A_CAR)
    a, b = (try_out(tmp_path / name, platform, ScriptedInference(cars=1)) for name in "ab")
    nothing = replace(b.recipe, plan=replace(b.recipe.plan, classes=()))
    only_b = versus(("a.yaml", "b.yaml"), (replace(b, outcomes={}, recipe=nothing), a))
    assert [line.partition(":")[0] for line in versus_lines(only_b)] == ["all classes together", "Car"]
    found = versus(("a.yaml", "b.yaml"), (a, replace(b, outcomes={}))).differences[CAR.feature_hash]
    assert isinstance(found, Difference)
    assert (found.recall.value, found.saved_s.value) == (-1.0, pytest.approx(-5.6))


def test_rows_on_which_annotators_still_work_are_refused() -> None:
    platform = platform_of([make_row("row", label_hash="m")])
    with pytest.raises(PermanentUsageError, match="rows at stage 'Annotate' are not finished"):
        find_finished(platform, platform.project(), frozenset(), ANNOTATE.title, 5)


def test_classes_of_one_name_that_need_different_entries_are_refused(tmp_path: Path) -> None:
    told = try_out(tmp_path, platform_of(finished_rows(40), A_CAR), ScriptedInference(cars=1))
    (cars,) = told.classes
    off = replace(cars, verdict=replace(cars.verdict, worth=Worth.NO))
    with pytest.raises(PermanentUsageError, match="several classes called 'Car'"):
        map_edits(replace(told, classes=[cars, off]))


@pytest.mark.parametrize(("found", "calibrated_ece"), [(499, 0.01), (500, 0.3)])
def test_a_calibration_of_little_or_that_makes_nothing_better_is_not_written(
    tmp_path: Path, found: int, calibrated_ece: float
) -> None:
    told = try_out(tmp_path, platform_of(finished_rows(40), A_CAR), ScriptedInference(cars=1))
    (cars,) = told.classes
    reliability = replace(make_reliability(), ece=0.2, calibrated_ece=calibrated_ece)
    (edit,) = map_edits(replace(told, classes=[replace(cars, found=found, reliability=reliability)]))
    assert edit.calibration is None
