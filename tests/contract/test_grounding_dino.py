"""What only Grounding DINO promises: ids as its weights were trained with, scores from token spans, long plans."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    AutoTokenizer,
    GroundingDinoImageProcessorPil,
)

from autolabel.core.geometry import box_iou
from autolabel.core.prompts import PromptPlan, pack_prompts
from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.models import Placement, count_tokens, load_detector
from autolabel.models.dino_forward import FastForward
from autolabel.models.dino_text import correct_text_positions, phrase_layout
from autolabel.models.grounding_dino import GroundingDinoDetector
from autolabel.models.weights import locate
from dino_models import tiny_model
from pictures import RED_XYXY_NORM, plan_of, two_swabs

FOLDER = locate("bundled:detector")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "white", "black", "gold")
TOOLS = ("scissors", "clamp", "forceps", "scalpel", "syringe", "gauze")


@pytest.fixture(scope="module")
def detector() -> GroundingDinoDetector:
    return GroundingDinoDetector.load(FOLDER, Placement("cpu"))


def reference_layout(ids: list[int]) -> tuple[list[list[bool]], list[int]]:
    """IDEA-Research/GroundingDINO, models/GroundingDINO/bertwarper.py, for one text, as loops."""
    count = len(ids)
    mask = np.eye(count, dtype=bool)
    positions = [0] * count
    previous = 0
    for i in range(count):
        if ids[i] in (101, 102, 1012, 1029):
            if i not in (0, count - 1):
                mask[previous + 1 : i + 1, previous + 1 : i + 1] = True
                positions[previous + 1 : i + 1] = range(i - previous)
            previous = i
    return mask.tolist(), positions


@pytest.mark.parametrize(
    ("ids", "positions"),
    [
        ([101, 5, 6, 1012, 7, 1012, 102], [0, 0, 1, 2, 0, 1, 0]),
        ([101, 5, 6, 7, 1029, 8, 9, 1012, 102], [0, 0, 1, 2, 3, 0, 1, 2, 0]),
        ([101, 5, 6, 102], [0, 0, 0, 0]),
        ([101, 5, 1012, 6, 7, 102], [0, 0, 1, 0, 0, 0]),
        ([101, 5, 1012, 102, 0, 0], [0, 0, 1, 0, 0, 0]),
    ],
    ids=["two phrases", "question mark", "no full stop", "last phrase open", "padding"],
)
def test_a_phrase_counts_from_nought_up_to_its_delimiter_and_sees_only_itself(
    ids: list[int], positions: list[int]
) -> None:
    mask, found = phrase_layout(torch.tensor([ids]))

    assert found.tolist() == [positions]
    assert (mask[0].tolist(), found[0].tolist()) == reference_layout(ids)


def test_texts_of_a_batch_are_laid_out_each_for_itself() -> None:
    texts = [[101, 5, 6, 1012, 7, 1012, 102], [101, 5, 1012, 6, 7, 1012, 102]]

    mask, positions = phrase_layout(torch.tensor(texts))

    assert [(m.tolist(), p.tolist()) for m, p in zip(mask, positions, strict=True)] == [
        reference_layout(ids) for ids in texts
    ]


TEXT = torch.tensor([[101, 110, 120, 1012, 130, 1012, 102]])
POSITIONS = [0, 0, 1, 2, 0, 1, 0]


@pytest.fixture
def model() -> Any:
    model = AutoModelForZeroShotObjectDetection.from_pretrained(FOLDER).eval()
    correct_text_positions(model)
    return model


def test_bert_is_given_these_positions_on_every_version_of_transformers(model: Any) -> None:
    seen: list[torch.Tensor] = []
    model.model.text_backbone.register_forward_pre_hook(lambda _, args: seen.append(args[3]))

    with torch.inference_mode():
        model(pixel_values=torch.zeros(1, 3, 64, 64), input_ids=TEXT)

    assert seen[0].tolist() == [POSITIONS]


def test_the_text_enhancer_is_given_their_whole_sinusoids_on_every_version_of_transformers(model: Any) -> None:
    seen: list[torch.Tensor] = []
    for layer in model.model.encoder.layers:
        layer.text_enhancer_layer.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["position_embeddings"]), with_kwargs=True
        )
    wavelengths = 10_000 ** (2 * (np.arange(64) // 2) / 64) / (2 * np.pi)
    angles = np.array(POSITIONS)[:, None] / wavelengths
    expected = np.where(np.arange(64) % 2, np.cos(angles), np.sin(angles))

    with torch.inference_mode():
        model(pixel_values=torch.zeros(1, 3, 64, 64), input_ids=TEXT)

    assert len(seen) == 2
    for embeddings in seen:
        np.testing.assert_allclose(embeddings[0], expected, atol=1e-5)


def test_scores_and_boxes_are_those_of_transformers_processor_and_model(
    detector: GroundingDinoDetector, model: Any
) -> None:
    """Token spans counted by hand: '[CLS] red gauze . blue gauze . [SEP]'."""
    image = two_swabs()
    processor = AutoProcessor.from_pretrained(FOLDER)
    inputs = processor(images=Image.fromarray(image), text="red gauze. blue gauze.", return_tensors="pt")
    with torch.inference_mode():
        out = model(**inputs)
    probability = out.logits[0].sigmoid()
    expected = [(probability[:, s].mean(1) + probability[:, s].amin(1)) / 2 for s in (slice(1, 3), slice(4, 6))]
    best = torch.stack(expected, dim=1).amax(1).argmax()
    x, y, w, h = (out.pred_boxes[0, best] * torch.tensor([320, 224, 320, 224])).tolist()

    (found,) = detector.detect([image], plan_of("red gauze", "blue gauze"))

    row = found.scores.max(axis=1).argmax()
    np.testing.assert_allclose(found.scores[row], [float(e[best]) for e in expected], atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy_px[row], [x - w / 2, y - h / 2, x + w / 2, y + h / 2], atol=1e-2)


def test_a_plan_over_the_token_limit_is_asked_in_passes_split_between_prompts(
    detector: GroundingDinoDetector,
) -> None:
    prompts = [f"{colour} object like a {tool}" for colour in COLOURS for tool in TOOLS]
    for i in (0, 30, 59):  # something is found in every pass
        prompts[i] = "red gauze"
    assert len(prompts) == 60

    tokens = count_tokens("grounding_dino", "bundled:detector", prompts)

    (whole,) = detector.detect([two_swabs()], plan_of(*prompts))

    passes = pack_prompts(tokens)
    assert len(passes) == 3
    best = whole.scores[:, 0].argmax()
    for columns in passes:
        (part,) = detector.detect([two_swabs()], plan_of(*(prompts[i] for i in columns)))
        row = part.scores.max(axis=1).argmax()
        np.testing.assert_allclose(whole.scores[best, columns], part.scores[row], atol=1e-6)
        assert box_iou(whole.boxes_xyxy_px[[best]], part.boxes_xyxy_px[[row]])[0, 0] > 0.8


@pytest.mark.parametrize("per_pass", [1, 2])
def test_an_object_that_several_passes_find_is_one_box_with_the_scores_of_each(
    detector: GroundingDinoDetector, per_pass: int
) -> None:
    plan = replace(plan_of("red gauze", "blue gauze", "gauze", "red tool", threshold=0.05), per_pass=per_pass)

    (found,) = detector.detect([two_swabs()], plan)

    truth = np.array([RED_XYXY_NORM], np.float32) * np.array([320, 224, 320, 224], np.float32)
    on_it = found.scores[box_iou(truth, found.boxes_xyxy_px)[0] > 0.8]
    (scores,) = on_it[on_it.max(axis=1) > 0.15]
    assert scores.argmax() == 0
    assert scores[[2, 3]].min() > 0.1


@pytest.mark.parametrize(("threshold", "below"), [(0.02, 0.05), (0.1, 0.5)])
def test_what_a_pass_scores_below_every_threshold_is_left_out_of_it_however_low_that_is(
    detector: GroundingDinoDetector, threshold: float, below: float
) -> None:
    asked = plan_of("red gauze", "blue gauze", threshold=0.5), plan_of("gauze", threshold=threshold)
    plan = PromptPlan(asked[0].classes + asked[1].classes, ("red tool",), per_pass=1)

    (found,) = detector.detect([two_swabs()], plan)

    given = found.scores[found.scores > 0]
    assert threshold <= given.min() < below


def test_a_prompt_longer_than_the_model_reads_is_refused(detector: GroundingDinoDetector) -> None:
    with pytest.raises(PermanentUsageError, match=r"prompt 1 takes \d+ tokens, the model reads at most 254"):
        detector.detect([two_swabs()], plan_of("red gauze", "red " * 300))


@pytest.mark.parametrize("prompts", [["st. bernard"], ["?"], ["st. bernard", "?"]])
def test_a_prompt_that_is_not_one_phrase_is_refused(detector: GroundingDinoDetector, prompts: list[str]) -> None:
    with pytest.raises(PermanentUsageError, match="a prompt must hold words"):
        detector.detect([two_swabs()], plan_of("red gauze", *prompts))


def test_a_prompt_of_which_the_vocabulary_has_nothing_is_refused(detector: GroundingDinoDetector) -> None:
    with pytest.raises(PermanentUsageError, match="the model knows no word or letter of prompt 1; say it in English"):
        detector.detect([two_swabs()], plan_of("red gauze", "собака"))


def test_words_the_vocabulary_lacks_are_read_in_pieces(detector: GroundingDinoDetector) -> None:
    plan = plan_of("forklift", "red gauze")

    (found,) = detector.detect([two_swabs()], plan)

    assert found.scores[:, 1].max() > 0.2


def test_tokens_are_counted_from_configuration_and_tokeniser_alone(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, tmp_path)

    tokens = count_tokens("grounding_dino", str(tmp_path), ["gauze", "red gauze", "zyx"])

    assert tokens.budget == 254
    assert tokens.counts[:2] == (2, 3)
    assert tokens.counts[2] >= 2


def test_tokens_of_another_family_are_refused() -> None:
    with pytest.raises(PermanentModelError, match="'grounding-dino' is needed"):
        count_tokens("grounding_dino", "bundled:segmenter", ["gauze"])


@pytest.fixture(scope="module")
def mm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as MM-Grounding-DINO's and LLMDet's are published, with the bundled tokeniser."""
    folder = Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("mm") / "detector"))
    tiny_model("mm-grounding-dino").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("is_reference", [False, True])
def test_mm_grounding_dino_answers_as_transformers_does(mm_folder: Path, is_reference: bool) -> None:
    detector = load_detector("mm_grounding_dino", str(mm_folder), Placement("cpu", is_reference=is_reference))
    model, processor = tiny_model("mm-grounding-dino"), AutoProcessor.from_pretrained(FOLDER)
    inputs = processor(images=Image.fromarray(two_swabs()), text="red gauze. blue gauze.", return_tensors="pt")
    with torch.inference_mode():
        probability = model(**inputs).logits[0].sigmoid()
    expected = [(probability[:, s].mean(1) + probability[:, s].amin(1)) / 2 for s in (slice(1, 3), slice(4, 6))]

    (found,) = detector.detect([two_swabs()], plan_of("red gauze", "blue gauze", threshold=0))

    best = np.array([score.max() for score in expected])
    np.testing.assert_allclose(found.scores.max(axis=0), best, atol=2e-3 if not is_reference else 1e-5)


def test_each_family_refuses_the_others_checkpoints(mm_folder: Path) -> None:
    with pytest.raises(PermanentModelError, match="'mm-grounding-dino' is needed"):
        load_detector("mm_grounding_dino", "bundled:detector", Placement("cpu"))
    with pytest.raises(PermanentModelError, match="'mm-grounding-dino', 'grounding-dino' is needed"):
        load_detector("grounding_dino", str(mm_folder), Placement("cpu"))


def test_tokens_of_mm_grounding_dino_are_counted_alike(mm_folder: Path) -> None:
    prompts = ["gauze", "red gauze"]

    assert count_tokens("mm_grounding_dino", str(mm_folder), prompts) == count_tokens(
        "grounding_dino", str(FOLDER), prompts
    )


def test_a_text_is_read_once_a_job_and_a_frame_once_however_many_passes(model: Any) -> None:
    forward = FastForward(model, GroundingDinoImageProcessorPil.from_pretrained(FOLDER))
    detector = GroundingDinoDetector(model, forward, AutoTokenizer.from_pretrained(FOLDER))
    calls: Counter[str] = Counter()
    model.model.text_backbone.register_forward_hook(lambda *_: calls.update(["text"]))
    model.model.backbone.conv_encoder.model.register_forward_hook(lambda *_: calls.update(["frames"]))
    prompts = [f"{colour} object like a {tool}" for colour in COLOURS for tool in TOOLS]

    for _ in range(2):
        detector.detect([two_swabs()], plan_of(*prompts))

    assert calls == {"text": 3, "frames": 2}


@pytest.mark.parametrize(
    ("setting", "named"), [({"resample": 3}, "resample"), ({"size": {"height": 256, "width": 256}}, "size")]
)
def test_an_image_processor_that_the_short_way_does_not_build_is_refused_and_named(
    tmp_path: Path, setting: dict[str, Any], named: str
) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "detector"))
    config = json.loads((folder / "processor_config.json").read_text())
    config["image_processor"] |= setting
    (folder / "processor_config.json").write_text(json.dumps(config))

    with pytest.raises(PermanentModelError, match=f"image processor sets {named} as is not built; try the reference"):
        GroundingDinoDetector.load(folder, Placement("cpu"))
    GroundingDinoDetector.load(folder, Placement("cpu", is_reference=True))
