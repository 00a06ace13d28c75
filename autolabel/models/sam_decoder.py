"""SAM's mask decoder over transformers' weights, with less to compute than its own forward. Exact algebra.

Each of a decoder's cross attentions projects the image's thousands of tokens for the sake of a handful of a box: here
the projections are folded into the handful, head by head. Masks are upsampled only where they are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import layer_norm, linear

# The decoder gives this many logits a cell of the embedding, each way.
LOGITS_PER_CELL = 4


class FoldedTransformer(nn.Module):
    """In the place of the two-way transformer of SAM's, SAM-HQ's or SAM 2's mask decoder, one box an entry."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self._theirs = theirs

    def forward(
        self,
        point_embeddings: torch.Tensor,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 1, T, C), (n, C, h, w) and (n, C, h, w) -> tokens (n, 1, T, C), image (n, 1, h * w, C)."""
        own = point_embeddings[:, 0]
        tokens, image = own, image_embeddings.flatten(2).transpose(1, 2)
        positions = image_positional_embeddings[:1].flatten(2).transpose(1, 2)
        for layer in self._theirs.layers:
            tokens = _among_tokens(layer, tokens, own)
            placed = image + positions
            tokens = layer.layer_norm2(
                tokens + _tokens_to_image(layer.cross_attn_token_to_image, tokens + own, placed, image)
            )
            tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
            image = layer.layer_norm4(
                _image_to_tokens(layer.cross_attn_image_to_token, image, placed, tokens + own, tokens)
            )
        found = _tokens_to_image(self._theirs.final_attn_token_to_image, tokens + own, image + positions, image)
        return self._theirs.layer_norm_final_attn(tokens + found)[:, None], image[:, None]


def decode_in_windows(
    decoder: Any,
    images: torch.Tensor,
    positions: torch.Tensor,
    corners: torch.Tensor,
    low_windows: NDArray[np.int64],
) -> tuple[torch.Tensor, torch.Tensor]:
    """`SamMaskDecoder`'s first mask alone: (n, C, h, w) twice and (n, 2, C) -> logits (n, 4h, 4w), IoUs (n,).

    Logits are right within each box's (left, top, right, bottom) of `low_windows`; most others are 0.
    """
    count, _, height, width = images.shape
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(count, -1, -1)
    tokens = torch.cat([outputs, corners], dim=1).to(images.dtype)
    tokens, image = decoder.transformer(tokens[:, None], images, positions)
    ious = decoder.iou_prediction_head(tokens[:, 0, 0])[:, 0]
    weights = decoder.output_hypernetworks_mlps[0](tokens[:, 0, 1])
    boxes, cells = (torch.from_numpy(each).to(image.device) for each in _cells_in(low_windows, width))
    found = image.new_zeros(count, height * width, LOGITS_PER_CELL**2)
    found[boxes, cells] = (_upscaled(decoder, image[boxes, 0, cells]) @ weights[boxes, :, None])[..., 0]
    halves = found.view(count, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return halves.reshape(count, LOGITS_PER_CELL * height, LOGITS_PER_CELL * width), ious


def _upscaled(decoder: Any, cells: torch.Tensor) -> torch.Tensor:
    """(m, C) -> (m, 16, D): a cell's pixels in halves of halves, (row, column) of the first, then of the second."""
    twice = _four_fold(decoder.upscale_conv1, cells)
    norm = decoder.upscale_layer_norm
    twice = decoder.activation(layer_norm(twice, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
    pixels: torch.Tensor = decoder.activation(_four_fold(decoder.upscale_conv2, twice))
    return pixels.flatten(1, 2)


def _cells_in(low_windows: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every cell that holds a logit of its box's window, as (box, number of the cell)."""
    boxes, cells = [], []
    for box, (left, top, right, bottom) in enumerate(low_windows.tolist()):
        rows = np.arange(top // LOGITS_PER_CELL, -(-bottom // LOGITS_PER_CELL))
        columns = np.arange(left // LOGITS_PER_CELL, -(-right // LOGITS_PER_CELL))
        cells.append((rows[:, None] * width + columns).ravel())
        boxes.append(np.full(len(cells[-1]), box))
    return np.concatenate(boxes), np.concatenate(cells)


def _four_fold(convolution: Any, pixels: torch.Tensor) -> torch.Tensor:
    """A transposed convolution of kernel and stride 2, which is a linear map of a pixel: (..., C) -> (..., 4, D)."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return linear(pixels, weight, convolution.bias.repeat(4)).view(*pixels.shape[:-1], 4, -1)


def _among_tokens(layer: Any, tokens: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    value = tokens[:, None]
    placed = value if layer.skip_first_layer_pe else value + own[:, None]
    seen = layer.self_attn(query=placed, key=placed, value=value)[0][:, 0]
    mixed: torch.Tensor = layer.layer_norm1(seen if layer.skip_first_layer_pe else tokens + seen)
    return mixed


def _tokens_to_image(attention: Any, query: torch.Tensor, placed: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Queries (n, T, C), image with and without positions (n, P, C) -> (n, T, C).

    The key's bias adds the same to all of a query's logits, which softmax does not see; the value's comes out whole.
    """
    heads, count = attention.num_attention_heads, query.shape[1]
    asked = _heads_of(attention.q_proj(query), heads) * attention.scaling
    key_weight = attention.k_proj.weight.unflatten(0, (heads, -1))
    value_weight = attention.v_proj.weight.unflatten(0, (heads, -1))
    logits = (asked @ key_weight).flatten(1, 2) @ placed.transpose(1, 2)
    seen = (logits.softmax(-1) @ image).view(len(query), heads, count, -1) @ value_weight.transpose(1, 2)
    found: torch.Tensor = _out(attention)(seen.transpose(1, 2).flatten(2) + attention.v_proj.bias)
    return found


def _image_to_tokens(
    attention: Any, image: torch.Tensor, placed: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Image without and with positions (n, P, C), keys and values (n, T, C) -> the image and what it attends to.

    The query's bias meets the keys; each head carries its share of the output's bias, since its weights add up to 1.
    """
    heads, count = attention.num_attention_heads, key.shape[1]
    keys = _heads_of(attention.k_proj(key), heads) * attention.scaling
    query_weight = attention.q_proj.weight.unflatten(0, (heads, -1))
    query_bias = attention.q_proj.bias.unflatten(0, (heads, 1, -1))
    out = _out(attention)
    out_weight = out.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)
    logits = torch.baddbmm(
        (keys * query_bias).sum(-1).flatten(1)[..., None], (keys @ query_weight).flatten(1, 2), placed.transpose(1, 2)
    )
    weights = logits.view(len(key), heads, count, -1).softmax(2).flatten(1, 2)
    values = _heads_of(attention.v_proj(value), heads) @ out_weight + out.bias / heads
    return torch.baddbmm(image, weights.transpose(1, 2), values.flatten(1, 2))


def _heads_of(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """(n, T, heads * c) -> (n, heads, T, c)."""
    count, tokens, _ = projected.shape
    return projected.view(count, tokens, heads, -1).transpose(1, 2)


def _out(attention: Any) -> Any:
    """SAM 2's attention has another name for it."""
    return attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj
