"""Recipes: files with clear errors, a plan out of an ontology, and an id made of what decides the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autolabel.core.identity import object_hash
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.documents import Document
from autolabel.errors import PermanentUsageError
from autolabel.prompt_map import PromptMap
from autolabel.recipe import (
    MAX_KNOWN_SLOTS,
    ModelChoice,
    Recipe,
    RecipeConfig,
    Tiles,
    check_calibration,
    load_config,
    plan_prompts,
)
from platform_fakes import make_row

CAR = OntologyClass("car00001", "Car", "bounding_box", "#D33115")
BUS = OntologyClass("bus00001", "City_Bus", "bitmask", "#D33115")
LANE = OntologyClass("lane0001", "Lane", "polyline", "#D33115")


def config(**changes: object) -> RecipeConfig:
    return load_config("demo").model_copy(update=changes)


def prompt_map(content: dict[str, object]) -> Document[PromptMap]:
    return Document(Path("mine.yaml"), PromptMap.model_validate(content))


def recipe(*classes: OntologyClass, **changes: object) -> Recipe:
    chosen = config(**changes)
    return Recipe(chosen, plan_prompts(chosen, None, classes)[0], "d1", "d2")


@pytest.mark.parametrize("name", ["demo", "default", "classic", "fast"])
def test_shipped_configs_load(name: str) -> None:
    assert load_config(name).detector.weights
    assert load_config(name).description


def test_an_unknown_config_names_the_nearest() -> None:
    with pytest.raises(PermanentUsageError, match="did you mean 'demo'"):
        load_config("dmeo")


def test_a_config_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("detector: {family: grounding_dino, weights: 'bundled:detector'}\nthreshold: 0.5\n")
    assert load_config(str(path)).threshold == 0.5


def test_a_configs_weights_are_found_beside_it_and_hub_ids_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "models" / "dino").mkdir(parents=True)
    path = tmp_path / "mine.yaml"
    path.write_text("detector: {family: a, weights: models/dino}\nsegmenter: {family: b, weights: models/sam}\n")
    config = load_config(str(path))
    assert config.segmenter
    assert (config.detector.weights, config.segmenter.weights) == (str(tmp_path / "models/dino"), "models/sam")


def test_a_configs_prompt_map_is_found_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for written, meant in (("tools.yaml", str(tmp_path / "tools.yaml")), ("retail", "retail")):
        path.write_text(f"detector: {{family: a, weights: b}}\nprompt_map: {written}\n")
        assert load_config(str(path)).prompt_map == meant


def test_prompts_come_from_the_ontologys_names() -> None:
    plan, left = plan_prompts(config(), None, [CAR, BUS, LANE])
    assert plan.prompts == ("car", "city bus")
    assert left == (LANE,)


def test_a_prompt_map_sets_prompts_threshold_and_cap_of_a_class() -> None:
    prompts = prompt_map(
        {
            "classes": {"Car": {"prompts": ["Sedan.", "taxi"], "threshold": 0.6, "max_instances": 2}},
            "distractors": ["Van"],
        }
    )
    plan, _ = plan_prompts(config(), prompts, [CAR, BUS])
    assert plan.prompts == ("sedan", "taxi", "city bus", "van")
    assert plan.class_of_prompt == (0, 0, 1, -1)
    assert (plan.classes[0].threshold, plan.classes[0].max_instances) == (0.6, 2)
    assert plan.classes[1].threshold == config().threshold


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"Carr": {}}, r"mine.yaml: classes.Carr: the ontology has no such class; did you mean 'Car'\?"),
        ({"Car": {"shape": "bitmask"}}, "classes.Car: the ontology asks for bounding_box, not bitmask"),
        ({"Car": {"prompts": ["car", "?"]}}, "classes.Car: a prompt is empty"),
        ({"Car": {"prompts": []}}, "no class of the ontology can be labelled"),
    ],
)
def test_a_prompt_map_that_does_not_fit_the_ontology_is_refused(classes: dict[str, object], message: str) -> None:
    with pytest.raises(PermanentUsageError, match=message):
        plan_prompts(config(), prompt_map({"classes": classes}), [CAR])


def test_a_class_without_prompts_is_left_to_people() -> None:
    plan, left = plan_prompts(config(), prompt_map({"classes": {"Car": {"prompts": []}}}), [CAR, BUS])
    assert (plan.prompts, left) == (("city bus",), (CAR,))


def test_a_shape_in_the_map_that_repeats_the_ontologys_changes_nothing() -> None:
    said = prompt_map({"classes": {"Car": {"shape": "bounding_box"}}})
    assert plan_prompts(config(), said, [CAR]) == plan_prompts(config(), None, [CAR])


def test_an_ontology_without_a_usable_class_is_refused() -> None:
    with pytest.raises(PermanentUsageError, match="no class of the ontology can be labelled"):
        plan_prompts(config(), None, [LANE])


def test_a_name_that_gives_no_prompt_is_refused() -> None:
    with pytest.raises(PermanentUsageError, match="a prompt is empty"):
        plan_prompts(config(), None, [replace(CAR, name="...")])


def test_the_id_ignores_colour_name_and_classes_that_are_not_looked_for() -> None:
    renamed = replace(CAR, color="#000000")
    assert recipe(CAR).id == recipe(renamed, LANE).id


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.5},
        {"max_instances": 7},
        {"nms_iou": 0.1},
        {"prompts_per_pass": 1},
        {"tiles": Tiles(size_px=512)},
        {"detector": ModelChoice(family="grounding_dino", weights="bundled:detector", precision="bf16")},
    ],
)
def test_the_id_changes_with_what_decides_the_answer(changes: dict[str, object]) -> None:
    assert recipe(CAR).id != recipe(CAR, **changes).id
    assert recipe(CAR).id != replace(recipe(CAR), detector_digest="other").id
    assert recipe(CAR).id != recipe(BUS).id


def test_recipes_that_use_nothing_new_keep_the_ids_they_had() -> None:
    assert recipe(CAR).id == "885dd21ac6616cb050af0669893a2960576d6697448268603b7882d22a349741"


def calibrated(*points: tuple[float, float]) -> tuple[Recipe, Document[PromptMap]]:
    """A recipe of calibrated confidence, and its map, which is for the scores of just that recipe."""
    classes = {"Car": {"calibration": points or None}}
    chosen, mapped = config(confidence="calibrated"), prompt_map({"classes": classes})
    made = Recipe(chosen, plan_prompts(chosen, mapped, [CAR])[0], "d1", "d2")
    return made, prompt_map({"classes": classes, "calibrated_for": made.scoring_id})


def test_calibration_belongs_to_the_answer_and_comes_back_from_the_ledger() -> None:
    first, second = calibrated((0, 0.1), (1, 0.9))[0], calibrated((0, 0.1), (1, 0.8))[0]
    assert len({recipe(CAR).id, first.id, second.id}) == 3
    assert Recipe.from_json(first.to_json()) == first
    assert first.plan.classes[0].confidence(0.25) == pytest.approx(0.3)


def test_a_map_with_calibrations_changes_nothing_while_confidence_is_raw() -> None:
    mapped = calibrated((0, 0.1), (1, 0.9))[1]
    assert plan_prompts(config(), mapped, [CAR]) == plan_prompts(config(), None, [CAR])


def test_a_calibration_holds_for_all_that_decides_the_answer_but_thresholds() -> None:
    mine = recipe(CAR)
    same = [recipe(CAR, threshold=0.6), recipe(CAR, description="another")]
    bf16 = ModelChoice(family="grounding_dino", weights="bundled:detector", precision="bf16")
    others = [
        recipe(CAR, BUS),
        recipe(CAR, prompts_per_pass=1),
        recipe(CAR, tiles=Tiles(size_px=512)),
        recipe(CAR, detector=bf16),
        replace(mine, detector_digest="other"),
        recipe(CAR, nms_iou=0.1),
        recipe(CAR, max_instances=1),
    ]
    assert {one.scoring_id for one in same} == {mine.scoring_id}
    assert len({mine.scoring_id, *(one.scoring_id for one in others)}) == 1 + len(others)


def test_calibrated_confidence_takes_a_calibration_of_this_recipe_for_each_class() -> None:
    made, mapped = calibrated((0, 0.1), (1, 0.9))
    check_calibration(made, mapped)
    check_calibration(recipe(CAR), None)
    with pytest.raises(PermanentUsageError, match=r"there is no prompt map\. Run `autolabel trial` with --write-map"):
        check_calibration(made, None)
    with pytest.raises(PermanentUsageError, match=r"mine\.yaml: calibrated_for: it is not for this recipe's prompts"):
        check_calibration(replace(made, detector_digest="new weights"), mapped)
    with pytest.raises(PermanentUsageError, match=r"classes\.Car: there is no calibration of Car"):
        check_calibration(*calibrated())


def test_a_recipe_comes_back_equal_from_the_ledgers_json() -> None:
    before = recipe(CAR, BUS)
    after = Recipe.from_json(before.to_json())
    assert (after, after.id) == (before, before.id)


def test_the_branch_is_named_by_the_recipe_and_never_reserved() -> None:
    assert recipe(CAR).branch == f"autolabel-{recipe(CAR).id[:8]}"


def hour_of_video(frames_per_second: float | None = 25.0) -> LabelRow:
    return make_row("film", data_type="video", frames=90_000, frames_per_second=frames_per_second)


@pytest.mark.parametrize(("video_fps", "frames"), [(1.0, 3600), (0.5, 1800), ("native", 90_000)])
def test_a_video_counts_as_the_frames_that_are_looked_at(video_fps: object, frames: int) -> None:
    assert recipe(CAR, video_fps=video_fps).frame_count(hour_of_video()) == frames


def test_a_group_counts_as_all_its_frames() -> None:
    assert recipe(CAR).frame_count(make_row("group", data_type="img_group", frames=7)) == 7


def test_how_videos_are_sampled_belongs_to_the_answer() -> None:
    assert len({recipe(CAR, **how).id for how in ({}, {"video_fps": 2.0}, {"min_track": 3})}) == 3


@pytest.mark.parametrize("video_fps", ["0", "-1", "all"])
def test_a_rate_that_is_none_is_refused_by_name(tmp_path: Path, video_fps: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"detector: {{family: grounding_dino, weights: x}}\nvideo_fps: {video_fps}\n")
    with pytest.raises(PermanentUsageError, match="video_fps"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("row", "slots", "can"),
    [
        (make_row("film"), [0, 19], True),
        (make_row("film"), [0, 20], False),
        (make_row("other"), [0], False),
        (hour_of_video(), [7, MAX_KNOWN_SLOTS - 1], True),
        (hour_of_video(), [MAX_KNOWN_SLOTS], False),
    ],
    ids=["first and last", "beyond the cap", "another row", "of a long video", "too late in it"],
)
def test_a_recipe_knows_the_names_that_it_gives_as_far_as_is_cheap(
    row: LabelRow, slots: list[int], can: bool
) -> None:
    mine = recipe(CAR, BUS)
    names = [object_hash(mine.id, "film", CAR.feature_hash, slot) for slot in slots]
    assert mine.can_have_named(row, dict.fromkeys(names, CAR.feature_hash)) == can


def test_a_recipe_has_named_no_object_of_a_class_that_it_does_not_look_for() -> None:
    name = object_hash(recipe(CAR).id, "film", LANE.feature_hash, 0)
    assert not recipe(CAR).can_have_named(make_row("film"), {name: LANE.feature_hash})
