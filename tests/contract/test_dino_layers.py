"""Each shortened piece of Grounding DINO against transformers' module of the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.grounding_dino.modeling_grounding_dino import MultiScaleDeformableAttention

from autolabel.models.dino_layers import attend, contrast, deform, fuse
from autolabel.models.dino_sampling import Levels, sample_by_bags
from dino_models import MODEL_TYPES, tiny_model

CPU = torch.device("cpu")
SHAPES_HW = ((9, 13), (5, 7), (3, 4), (2, 2))
CELLS, TOKENS, QUERIES, WIDTH = 168, 7, 11, 32


@pytest.fixture(scope="module", params=MODEL_TYPES)
def model(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        yield tiny_model(request.param)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert theirs.std() > 0.01, "nothing is compared"
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize("tokens", [1, TOKENS, 60])
def test_fusion_in_another_order_of_products_is_the_same(model: Any, tokens: int) -> None:
    layer = model.model.encoder.layers[0].fusion_layer
    vision, text = random(2, CELLS, WIDTH), random(2, tokens, WIDTH, seed=1)

    (their_vision, _), (their_text, _) = layer(vision, text)
    our_vision, our_text = fuse(layer, vision, text)

    assert_equal(our_vision - layer.layer_norm_vision(vision), their_vision - layer.layer_norm_vision(vision))
    assert_equal(our_text - layer.layer_norm_text(text), their_text - layer.layer_norm_text(text))


@pytest.mark.parametrize("coordinates", [2, 4])
def test_deformable_attention_to_points_and_to_boxes_is_the_same(model: Any, coordinates: int) -> None:
    layers = model.model.encoder.layers[0].deformable_layer, model.model.decoder.layers[0]
    attn = layers[0].self_attn if coordinates == 2 else layers[1].encoder_attn
    queries, memory = random(2, QUERIES, WIDTH), random(2, CELLS, WIDTH, seed=1)
    references = random(2, QUERIES, coordinates, seed=2).sigmoid()
    levels = Levels.of(SHAPES_HW, CPU)

    theirs, _ = attn(
        queries,
        encoder_hidden_states=memory,
        reference_points=references[:, :, None].expand(-1, -1, len(SHAPES_HW), -1),
        spatial_shapes=levels.sizes_hw,
        spatial_shapes_list=list(SHAPES_HW),
        level_start_index=levels.starts,
    )

    assert_equal(deform(attn, queries, memory, references, levels), theirs)


SIDE = st.integers(1, 12)


@given(
    shapes_hw=st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=4),
    spread=st.sampled_from([0.2, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_sampling_by_bags_is_grid_sample_wherever_the_points_lie(
    shapes_hw: list[tuple[int, int]], spread: float, seed: int
) -> None:
    levels = Levels.of(tuple(shapes_hw), CPU)
    values = random(2, sum(h * w for h, w in shapes_hw), 3, 8, seed=seed)
    points = 0.5 + random(2, 5, 3, len(shapes_hw), 4, 2, seed=seed + 1) * spread
    points[:, 0], points[:, 1] = points[:, 0].round(), points[:, 1].round() / levels.sizes_wh[:, None]
    weights = random(2, 5, 3, len(shapes_hw), 4, seed=seed + 2)

    theirs = MultiScaleDeformableAttention()(
        values, levels.sizes_hw, shapes_hw, levels.starts, points, weights, im2col_step=64
    )

    torch.testing.assert_close(sample_by_bags(values, points, weights, levels), theirs, atol=3e-4, rtol=0)


def test_more_queries_than_are_taken_at_once_are_all_sampled() -> None:
    levels = Levels.of(((3, 5),), CPU)
    values, points = random(2, 15, 2, 8), random(2, 2500, 2, 1, 4, 2).sigmoid()
    weights = random(2, 2500, 2, 1, 4)

    theirs = MultiScaleDeformableAttention()(
        values, levels.sizes_hw, [(3, 5)], levels.starts, points, weights, im2col_step=64
    )

    assert_equal(sample_by_bags(values, points, weights, levels), theirs)


def test_points_that_are_no_numbers_stay_in_the_table() -> None:
    levels = Levels.of(((3, 5),), CPU)
    points = torch.full((1, 1, 1, 1, 4, 2), float("nan"))

    sampled = sample_by_bags(random(1, 15, 1, 8), points, torch.full(points.shape[:-1], float("nan")), levels)

    assert sampled.isnan().all()


@pytest.mark.parametrize("keys", [QUERIES, TOKENS])
def test_the_fused_kernel_attends_as_the_module_does(model: Any, keys: int) -> None:
    attn = model.model.decoder.layers[0].self_attn
    queries, memory = random(2, QUERIES, WIDTH), random(2, keys, WIDTH, seed=1)

    (theirs,) = attn(queries, memory, memory * 0.5)

    assert_equal(attend(attn, queries, memory, memory * 0.5), theirs)


def test_logits_are_those_of_the_texts_own_tokens(model: Any) -> None:
    embed = model.class_embed[-1]
    hidden, text = random(2, QUERIES, WIDTH), random(2, TOKENS, WIDTH, seed=1)

    theirs = embed(hidden, text, torch.ones(2, TOKENS, dtype=torch.bool))

    assert theirs.shape[-1] == model.config.max_text_len
    assert_equal(contrast(embed, hidden, text), theirs[..., :TOKENS])
