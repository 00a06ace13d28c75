"""What only Grounding DINO promises: ids as its weights were trained with, scores from token spans, long plans."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.models import Placement, count_tokens
from autolabel.models.dino_text import correct_text_positions, phrase_layout
from autolabel.models.grounding_dino import GroundingDinoDetector
from autolabel.models.weights import locate
from pictures import plan_of, two_swabs

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

    (whole,) = detector.detect([two_swabs()], plan_of(*prompts))

    columns_of_passes = sorted({tuple(np.flatnonzero(row).tolist()) for row in whole.scores})
    assert [i for columns in columns_of_passes for i in columns] == list(range(60))
    assert len(columns_of_passes) == 3
    for columns in columns_of_passes:
        (part,) = detector.detect([two_swabs()], plan_of(*(prompts[i] for i in columns)))
        rows = whole.scores[:, columns[0]] > 0
        np.testing.assert_allclose(whole.scores[np.ix_(rows, columns)], part.scores, atol=1e-6)
        np.testing.assert_allclose(whole.boxes_xyxy_px[rows], part.boxes_xyxy_px, atol=1e-3)


def test_a_prompt_longer_than_the_model_reads_is_refused(detector: GroundingDinoDetector) -> None:
    with pytest.raises(PermanentUsageError, match=r"prompt 1 takes \d+ tokens, the model reads at most 254"):
        detector.detect([two_swabs()], plan_of("red gauze", "red " * 300))


@pytest.mark.parametrize("prompt", ["st. bernard", "?"])
def test_a_prompt_that_is_not_one_phrase_is_refused(detector: GroundingDinoDetector, prompt: str) -> None:
    with pytest.raises(PermanentUsageError, match="a prompt must hold words"):
        detector.detect([two_swabs()], plan_of("red gauze", prompt))


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
