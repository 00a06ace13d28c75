"""What is ours of SAM's networks against transformers' own forward, with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from autolabel.models.sam_canvas import Framing
from autolabel.models.sam_decoder import FoldedTransformer
from autolabel.models.sam_networks import SamNetwork, to_precision
from autolabel.models.sam_vision import encode
from pictures import two_swabs
from tiny_sams import TINY, tiny_sam, tiny_sam_hq

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BOXES = torch.tensor([[20.0, 30, 70, 100], [60, 20, 120, 90], [10, 10, 30, 20]])
FRAMES = torch.tensor([1, 0, 1])
WHOLE = np.tile(np.array([0, 0, 64, 64]), (3, 1))


@pytest.fixture(scope="module", params=[tiny_sam, tiny_sam_hq])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


@torch.inference_mode()
@pytest.mark.parametrize("bias_bytes", [1, 1 << 20], ids=["row by row", "at once"])
def test_the_encoder_is_transformers_own(model: Any, bias_bytes: int) -> None:
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    expected = model.vision_encoder(pixels)

    embedding, early = encode(model.vision_encoder, pixels, bias_bytes)

    torch.testing.assert_close(embedding, expected.last_hidden_state, rtol=0, atol=1e-5)
    if "intermediate_embeddings" in expected:
        torch.testing.assert_close(early, expected.intermediate_embeddings[0], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", TINY)
def test_the_folded_transformer_is_transformers_own(family: str) -> None:
    theirs = TINY[family][0]().mask_decoder.transformer
    random = torch.Generator().manual_seed(1)
    tokens = torch.randn(3, 1, 7, 32, generator=random)
    image, positions = torch.randn(3, 32, 16, 16, generator=random), torch.randn(1, 32, 16, 16, generator=random)
    asked = {
        "point_embeddings": tokens,
        "image_embeddings": image,
        "image_positional_embeddings": positions.expand_as(image),
        "attention_similarity": None,
    }

    folded, expected = FoldedTransformer(theirs)(**asked), theirs(**asked)

    torch.testing.assert_close(folded[0], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(folded[1], expected[1], rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", TINY)
def test_boxes_of_several_frames_are_decoded_as_transformers_does_frame_by_frame(family: str) -> None:
    model = TINY[family][0]()
    squares = squares_of(family)
    expected = [
        model(pixel_values=squares[frame][None], input_boxes=box[None, None], multimask_output=False)
        for frame, box in zip(FRAMES.tolist(), BOXES, strict=True)
    ]
    network = SamNetwork(model)

    logits, ious = network.decode(network.embed(squares), FRAMES, BOXES, WHOLE)

    torch.testing.assert_close(logits, torch.cat([out.pred_masks[0, 0] for out in expected]), rtol=0, atol=2e-5)
    torch.testing.assert_close(ious, torch.cat([out.iou_scores[0, 0] for out in expected]), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_logits_asked_for_in_windows_are_those_of_the_whole() -> None:
    network = SamNetwork(tiny_sam())
    embeddings = network.embed(squares_of("sam"))
    windows = np.array([[10, 14, 36, 51], [29, 9, 61, 46], [4, 5, 5, 6]])
    whole, _ = network.decode(embeddings, FRAMES, BOXES, WHOLE)

    logits, _ = network.decode(embeddings, FRAMES, BOXES, windows)

    for found, expected, (left, top, right, bottom) in zip(logits, whole, windows.tolist(), strict=True):
        cut = slice(top, bottom), slice(left, right)
        torch.testing.assert_close(found[cut], expected[cut], rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("family", TINY)
def test_in_bfloat16_boxes_keep_their_coordinates(family: str) -> None:
    model = TINY[family][0]()
    exact = model.prompt_encoder(None, None, BOXES[:, None], None)[0]

    network = SamNetwork(to_precision(model, torch.bfloat16))

    torch.testing.assert_close(model.prompt_encoder(None, None, BOXES[:, None], None)[0], exact, rtol=0, atol=2e-2)
    logits, ious = network.decode(network.embed(squares_of(family)), FRAMES, BOXES, WHOLE // 2)
    assert {logits.dtype, ious.dtype} == {torch.bfloat16}


def squares_of(family: str) -> torch.Tensor:
    framing = Framing(128, family != "sam2", *IMAGENET)
    return framing.squares([two_swabs(128, 128), two_swabs(64, 128)], torch.device("cpu"))
