"""Grounding DINO's layers for frames without padding: transformers' modules and weights, fewer and cheaper steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from autolabel.models.dino_sampling import Levels, sample


def fuse(layer: Any, vision: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`FusionLayer`: vision (B, N, D) and text (B, T, D) look at each other -> both, changed."""
    vision, text = layer.layer_norm_vision(vision), layer.layer_norm_text(text)
    to_vision, to_text = cross_attend(layer.attn, vision, text)
    return vision + layer.vision_param * to_vision, text + layer.text_param * to_text


def cross_attend(attn: Any, vision: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`BiMultiHeadAttention`, re-associated -> what each side gets from the other, (B, N, D) and (B, T, D).

    The module projects N = 22,000 cells to 1,024 channels, three times, to meet T tokens. Here the tokens are brought
    to the cells' D channels instead: (v Wq) (t Wk)' = v (Wq (t Wk)'), and alike for the values. Exact algebra.
    The largest logit of the whole batch is not taken off, which would let frames move each other's rounding.
    """
    batch, cells, width = vision.shape
    heads, tokens = attn.num_heads, text.shape[1]

    keys = attn.text_proj(text).unflatten(-1, (heads, -1)) * attn.scale
    seen_by_cells = torch.einsum("bthd,hdc->bhtc", keys, attn.vision_proj.weight.unflatten(0, (heads, -1)))
    bias = torch.einsum("bthd,hd->bht", keys, attn.vision_proj.bias.unflatten(0, (heads, -1)))
    logits = torch.baddbmm(bias.reshape(batch, 1, -1), vision, seen_by_cells.reshape(batch, -1, width).mT)

    to_text = logits.softmax(1).mT @ vision
    to_text = torch.einsum(
        "bhtc,hdc->bthd",
        to_text.view(batch, heads, tokens, width),
        attn.values_vision_proj.weight.unflatten(0, (heads, -1)),
    )
    to_text = attn.out_text_proj(to_text.flatten(2) + attn.values_vision_proj.bias)

    values = attn.values_text_proj(text).unflatten(-1, (heads, -1))
    seen_in_text = torch.einsum("bthd,chd->bhtc", values, attn.out_vision_proj.weight.unflatten(1, (heads, -1)))
    shares = logits.view(batch, cells, heads, tokens).softmax(-1).flatten(2)
    to_vision = torch.baddbmm(attn.out_vision_proj.bias, shares, seen_in_text.reshape(batch, -1, width))
    return to_vision, to_text


def deform(
    attn: Any, queries: torch.Tensor, memory: torch.Tensor, references: torch.Tensor, levels: Levels
) -> torch.Tensor:
    """`MultiscaleDeformableAttention`: queries (B, Q, D) with their positions, memory (B, N, D) -> (B, Q, D).

    `references`: (1 or B, Q, 2 or 4) float32, centre or box of each query in [0, 1]. Locations and sums are float32
    whatever the weights are.
    """
    values = attn.value_proj(memory).unflatten(-1, (attn.n_heads, -1)).float()
    offsets = attn.sampling_offsets(queries).float()
    offsets = offsets.unflatten(-1, (attn.n_heads, attn.n_levels, attn.n_points, 2))
    weights = attn.attention_weights(queries).float().unflatten(-1, (attn.n_heads, -1)).softmax(-1)
    weights = weights.unflatten(-1, (attn.n_levels, attn.n_points))
    spread = references[:, :, None, None, None]
    if references.shape[-1] == 2:
        points = spread + offsets / levels.sizes_wh[:, None]
    else:
        points = spread[..., :2] + offsets / attn.n_points * spread[..., 2:] * 0.5
    sampled: torch.Tensor = attn.output_proj(sample(attn.attn, values, points, weights, levels).to(memory.dtype))
    return sampled


def encode_vision(
    layer: Any, vision: torch.Tensor, positions: torch.Tensor, references: torch.Tensor, levels: Levels
) -> torch.Tensor:
    """`DeformableLayer`: every cell (B, N, D) attends to points of all maps -> (B, N, D)."""
    vision = layer.self_attn_layer_norm(
        vision + deform(layer.self_attn, vision + positions, vision, references, levels)
    )
    return _feed_forward(layer, vision)


def decode(
    layer: Any,
    queries: torch.Tensor,
    references: torch.Tensor,
    positions: torch.Tensor,
    memory: tuple[torch.Tensor, torch.Tensor],
    levels: Levels,
) -> torch.Tensor:
    """`DecoderLayer`: queries (B, Q, D) see each other, the text, then the picture -> (B, Q, D).

    `memory`: the encoder's cells (B, N, D) and tokens (B, T, D); `references`: boxes (B, Q, 4) float32.
    """
    cells, tokens = memory
    placed = queries + positions
    queries = layer.self_attn_layer_norm(queries + attend(layer.self_attn, placed, placed, queries))
    to_text = attend(layer.encoder_attn_text, queries + positions, tokens, tokens)
    queries = layer.encoder_attn_text_layer_norm(queries + to_text)
    to_cells = deform(layer.encoder_attn, queries + positions, cells, references, levels)
    return _feed_forward(layer, layer.encoder_attn_layer_norm(queries + to_cells))


def attend(attn: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """`MultiheadAttention` without a mask, by torch's fused kernel: (B, Q, D), twice (B, K, D) -> (B, Q, D)."""
    q, k, v = (
        project(x).unflatten(-1, (attn.num_attention_heads, -1)).transpose(1, 2)
        for project, x in ((attn.query, queries), (attn.key, keys), (attn.value, values))
    )
    attended: torch.Tensor = attn.out_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    return attended


def contrast(embed: Any, hidden: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """`ContrastiveEmbedding`: (B, Q, D), (B, T, D) -> logits (B, Q, T) float32, not padded to the longest text.

    MM-Grounding-DINO's has a scale and a bias. In float32 always: the best proposals of bf16 logits would be ties.
    """
    logits = hidden.float() @ text.float().mT
    return logits / math.sqrt(hidden.shape[-1]) + embed.bias.float() if hasattr(embed, "bias") else logits


def sinusoids(positions: torch.Tensor, channels: int) -> torch.Tensor:
    """(..., n) float32 -> (..., n * channels): sine and cosine in turn, y before x, as the weights know them."""
    octave = torch.arange(channels // 2, device=positions.device) * 2 / channels
    angles = positions[..., None] * (2 * math.pi) / 10_000**octave
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    if positions.shape[-1] > 1:
        x, y, *extents = waves.unbind(-2)
        waves = torch.stack((y, x, *extents), dim=-2)
    return waves.flatten(-2)


def _feed_forward(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
    return normed
