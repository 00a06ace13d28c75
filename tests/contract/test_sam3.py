"""SAM 3 on a tiny random model: what transformers' own call and its processor's formulae give, in any batch."""

from __future__ import annotations

import json
import shutil
import string
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, CLIPTokenizer, Sam3Config
from transformers.models.sam3.modeling_sam3 import Sam3Model

from autolabel.core.detections import Detections
from autolabel.core.geometry import mask_to_frame
from autolabel.core.prompts import PromptPlan
from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.glances import glance_at_files
from autolabel.models import Placement, count_tokens, load_detector
from autolabel.models.sam3 import Sam3Detector
from autolabel.pipeline import infer
from autolabel.protocols import RGB
from autolabel.settings import Settings
from pictures import plan_of, two_swabs

SQUARE_PX = 56
WIDE, TALL = (90, 60), (64, 100)
PROMPTS = ("red gauze", "blue", "a kidney dish")
LEAST_SCORE = 0.05
asked_for = partial(plan_of, threshold=LEAST_SCORE)
PLAN = asked_for(*PROMPTS, shape="bitmask")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


def tiny_config() -> Sam3Config:
    backbone = SMALL | {"model_type": "sam3_vit_model", "num_hidden_layers": 2, "image_size": SQUARE_PX}
    backbone |= {"window_size": 2, "global_attn_indexes": [1], "pretrain_image_size": 28}
    text = SMALL | {"model_type": "clip_text_model", "num_hidden_layers": 2, "vocab_size": 60, "projection_dim": 16}
    return Sam3Config(
        vision_config={"backbone_config": backbone, "fpn_hidden_size": 32},
        text_config=text | {"max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1},
        geometry_encoder_config=SMALL | {"num_layers": 1},
        detr_encoder_config=SMALL | {"num_layers": 1},
        detr_decoder_config=SMALL | {"num_layers": 2, "num_queries": 12},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam3")
    torch.manual_seed(3)
    model = Sam3Model(tiny_config())
    for weights in model.parameters():
        if weights.dim() > 1:  # as they begin, all queries say nearly the same
            torch.nn.init.normal_(weights, std=0.25)
    model.save_pretrained(folder)
    letters = string.ascii_lowercase
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder: Path) -> Sam3Detector:
    return Sam3Detector.load(folder, Placement("cpu"))


def transformers_answer(folder: Path, image: RGB, prompt: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One call of the whole model, then what `Sam3ImageProcessor` does before and after it, which needs torchvision.

    Scores (n,), boxes (n, 4) in pixels and masks (n, H, W) of `post_process_instance_segmentation`, best first.
    """
    model, tokenizer = Sam3Model.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    size = image.shape[:2]
    stretched = interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None], (SQUARE_PX, SQUARE_PX), mode="bilinear", antialias=True
    )
    text = tokenizer([prompt], return_tensors="pt", padding="max_length", max_length=32)
    with torch.inference_mode():
        out = model(pixel_values=(stretched / 255 - 0.5) / 0.5, **text)
    scores = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0]
    keep = scores.argsort(descending=True)[: int((scores > LEAST_SCORE).sum())]
    boxes = out.pred_boxes[0] * torch.tensor([size[1], size[0], size[1], size[0]])
    masks = interpolate(out.pred_masks.sigmoid(), size, mode="bilinear", align_corners=False)[0] > 0.5
    return scores[keep], boxes[keep], masks[keep]


def assert_same(one: Detections, other: Detections, size_px: tuple[int, int]) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.boxes_xyxy_px, other.boxes_xyxy_px, atol=1e-2)
    for mine, others in zip(one.masks or (), other.masks or (), strict=True):
        assert (mask_to_frame(mine, *size_px) ^ mask_to_frame(others, *size_px)).mean() <= 1e-3


@pytest.mark.parametrize("size_px", [WIDE, TALL])
def test_scores_boxes_and_masks_are_those_of_transformers(
    detector: Sam3Detector, folder: Path, size_px: tuple[int, int]
) -> None:
    image = two_swabs(*size_px)

    for prompt in PROMPTS:
        (found,) = detector.detect([image], asked_for(prompt, shape="bitmask"))

        scores, boxes, masks = transformers_answer(folder, image, prompt)
        np.testing.assert_allclose(found.scores[:, 0], scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes_xyxy_px, boxes, atol=1e-3)
        for mask, expected in zip(found.masks or (), masks.numpy(), strict=True):
            left, top, right, bottom = mask.window_xyxy_px
            assert (mask_to_frame(mask, *size_px) ^ expected)[top:bottom, left:right].mean() <= 1e-3


def test_the_tiny_models_answers_differ_enough_to_tell_a_mix_up(detector: Sam3Detector) -> None:
    (found,) = detector.detect([two_swabs(*WIDE)], PLAN)

    assert np.ptp(found.scores.max(axis=0)) > 1e-3
    assert np.ptp(found.boxes_xyxy_px, axis=0).min() > 1
    assert found.masks
    assert len({mask.counts for mask in found.masks}) > len(found.masks) / 2


@pytest.mark.parametrize("is_reference", [False, True])
def test_any_batch_of_any_sizes_gives_the_same_answers(folder: Path, is_reference: bool) -> None:
    images = [two_swabs(*WIDE), two_swabs(*TALL), np.zeros((60, 90, 3), np.uint8)]
    detector = load_detector("sam3", str(folder), Placement("cpu"))
    other = load_detector("sam3", str(folder), Placement("cpu", is_reference=is_reference))

    together = detector.detect(images, PLAN)

    for image, found in zip(images, together, strict=True):
        assert_same(found, other.detect([image], PLAN)[0], (image.shape[1], image.shape[0]))


def test_prompts_are_asked_alone_and_answered_in_their_order(detector: Sam3Detector) -> None:
    (whole,) = detector.detect([two_swabs(*WIDE)], PLAN)

    for column, prompt in enumerate(PROMPTS):
        (alone,) = detector.detect([two_swabs(*WIDE)], asked_for(prompt))
        assert whole.scores[:, column].max() == pytest.approx(alone.scores.max(), abs=1e-5)


def test_what_two_prompts_find_is_one_object_with_both_scores(detector: Sam3Detector) -> None:
    (once,) = detector.detect([two_swabs(*WIDE)], asked_for("red gauze", shape="bitmask"))

    (twice,) = detector.detect([two_swabs(*WIDE)], asked_for("red gauze", "Red gauze", shape="bitmask"))

    assert 0 < len(twice.scores) <= len(once.scores)
    assert (twice.scores > 0).all()


@pytest.mark.parametrize("threshold", [0.01, 0.23])
def test_what_scores_below_every_threshold_is_left_out_however_low_that_is(
    detector: Sam3Detector, threshold: float
) -> None:
    (whole,) = detector.detect([two_swabs(*WIDE)], plan_of("red gauze", shape="bitmask", threshold=0))

    (found,) = detector.detect([two_swabs(*WIDE)], plan_of("red gauze", shape="bitmask", threshold=threshold))

    expected = [score for score in whole.scores[:, 0].tolist() if score >= threshold]
    assert found.scores[:, 0].tolist() == expected
    assert len(found.masks or ()) == len(expected) > 0


def test_masks_come_only_where_a_class_is_drawn_from_one(detector: Sam3Detector) -> None:
    assert detector.detect([two_swabs(*WIDE)], asked_for(*PROMPTS))[0].masks is None


@pytest.mark.parametrize(("images", "plan"), [([], PLAN), ([two_swabs(*WIDE)], PromptPlan(()))])
def test_nothing_asked_is_nothing_found(detector: Sam3Detector, images: list[RGB], plan: PromptPlan) -> None:
    assert [len(found.scores) for found in detector.detect(images, plan)] == [0] * len(images)


def test_a_recipe_without_a_segmenter_gets_its_masks_from_it(detector: Sam3Detector) -> None:
    plan = asked_for(*PROMPTS, shape="bitmask")

    (labels,) = infer([(7, two_swabs(*WIDE))], plan, detector, None, nms_iou=0.9, cross_class_iou=0.9)

    assert any(found.mask for found in labels.detections)


def test_a_look_at_files_by_a_recipe_without_a_segmenter_asks_for_masks(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sam3.yaml").write_text(f"detector: {{family: sam3, weights: {folder}}}\n")
    Image.fromarray(two_swabs(*WIDE)).save(tmp_path / "tray.png")
    settings = Settings(_env_file=None).model_copy(update={"config": str(tmp_path / "sam3.yaml")})

    glance = glance_at_files(settings, [tmp_path / "tray.png"], "red gauze, blue")

    assert set(glance.recipe.shapes.values()) == {"bitmask"}


def test_bf16_is_the_image_encoders_alone_and_boxes_stay_fine(detector: Sam3Detector, folder: Path) -> None:
    fast = Sam3Detector.load(folder, Placement("cpu", "bf16"))

    (coarse,), (fine,) = (each.detect([two_swabs(1600, 1000)], asked_for("red gauze")) for each in (fast, detector))

    assert len(coarse.scores) == len(fine.scores)
    assert np.abs(coarse.scores - fine.scores).max() < 0.02
    boxes = torch.from_numpy(coarse.boxes_xyxy_px)
    assert (boxes != boxes.bfloat16().float()).any(dim=0).all()


def test_a_prompt_longer_than_the_model_reads_is_refused(detector: Sam3Detector) -> None:
    with pytest.raises(PermanentUsageError, match=r"takes 33 tokens, the model reads at most 32; shorten it"):
        detector.detect([two_swabs(*WIDE)], asked_for("x" * 31))


def test_tokens_are_counted_for_each_prompt(folder: Path) -> None:
    tokens = count_tokens("sam3", str(folder), ["red", "a dish"])

    assert (tokens.counts, tokens.budget) == ((3, 5), 30)


def test_the_published_layout_a_video_model_loads_too(folder: Path, detector: Sam3Detector, tmp_path: Path) -> None:
    video = Path(shutil.copytree(folder, tmp_path / "video"))
    tensors = load_file(folder / "model.safetensors")
    inside = {f"detector_model.{name}": tensor for name, tensor in tensors.items()}
    save_file(inside | {"tracker_model.x": torch.zeros(1)}, video / "model.safetensors", {"format": "pt"})
    config = {"model_type": "sam3_video", "detector_config": json.loads((folder / "config.json").read_text())}
    (video / "config.json").write_text(json.dumps(config))

    (found,) = Sam3Detector.load(video, Placement("cpu")).detect([two_swabs(*WIDE)], PLAN)

    assert_same(found, detector.detect([two_swabs(*WIDE)], PLAN)[0], WIDE)


def test_a_folder_without_tokeniser_or_of_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()

    with pytest.raises(PermanentModelError, match="tokeniser"):
        Sam3Detector.load(bare, Placement("cpu"))
    with pytest.raises(PermanentModelError, match="'sam', 'sam3' is needed"):
        load_detector("sam3", "bundled:segmenter", Placement("cpu"))
