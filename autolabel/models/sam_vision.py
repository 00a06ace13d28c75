"""The ViT encoder of SAM and SAM-HQ over transformers' weights, with less to compute and to hold than theirs.

Exact, but for the order of additions:

- windows: padding is added after the projections, where it is their bias, and never projected;
- global layers: the bias of relative positions, (heads, tokens, tokens) a picture, is made for a few rows of queries
  at a time and never held whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

# Of the bias of relative positions that is held at a time: on the CPU what stays near it, on a GPU what it can spare.
CPU_BIAS_BYTES, GPU_BIAS_BYTES = 8 << 20, 1 << 30


def encode(encoder: Any, pixels: torch.Tensor, bias_bytes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, square, square) -> embedding (B, C, h, w), and what its first global layer says (B, h, w, D)."""
    hidden = encoder.patch_embed(pixels)
    if encoder.pos_embed is not None:
        hidden = hidden + encoder.pos_embed
    of_global_layers = []
    for layer in encoder.layers:
        hidden = hidden + _attend(layer.attn, layer.layer_norm1(hidden), layer.window_size, bias_bytes)
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
        if layer.window_size == 0:
            of_global_layers.append(hidden)
    return encoder.neck(hidden), of_global_layers[0]


def _attend(attention: Any, hidden: torch.Tensor, window: int, bias_bytes: int) -> torch.Tensor:
    """(B, h, w, D) -> the same; in windows of that side, or over all where it is 0."""
    batch, height, width, channels = hidden.shape
    qkv = attention.qkv(hidden)
    if window:
        qkv = _windows(qkv, attention.qkv.bias, window)
    heads = attention.num_attention_heads
    _, rows, columns, _ = qkv.shape
    query, key, value = qkv.view(-1, rows * columns, 3, heads, channels // heads).permute(2, 0, 3, 1, 4).unbind()
    row_bytes = len(query) * heads * rows * columns**2 * query.element_size()
    out = _with_positions(attention, query, key, value, (rows, columns), max(1, bias_bytes // row_bytes))
    out = out.transpose(1, 2).reshape(-1, rows, columns, channels)
    if window:
        out = _joined(out, batch, height, width)
    projected: torch.Tensor = attention.proj(out)
    return projected


def _with_positions(
    attention: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    size_hw: tuple[int, int],
    step: int,
) -> torch.Tensor:
    """(N, heads, tokens, channels) each -> the same; `step` rows of queries at a time."""
    if not attention.use_rel_pos:
        return scaled_dot_product_attention(query, key, value)
    height, width = size_hw
    along_y = attention.get_rel_pos(height, height, attention.rel_pos_h)
    along_x = attention.get_rel_pos(width, width, attention.rel_pos_w)
    count, heads, tokens, _ = query.shape
    answers = []
    for start in range(0, height, step):
        rows = min(step, height - start)
        asked = query[:, :, start * width : (start + rows) * width]
        grid = asked.reshape(count, heads, rows, width, -1)
        of_y = torch.einsum("nhywc,ykc->nhywk", grid, along_y[start : start + rows])
        of_x = torch.einsum("nhywc,wkc->nhywk", grid, along_x)
        bias = of_y.contiguous()[..., :, None] + of_x.contiguous()[..., None, :]
        bias = bias.view(count, heads, rows * width, tokens)
        answers.append(scaled_dot_product_attention(asked, key, value, attn_mask=bias))
    return torch.cat(answers, dim=2)


def _windows(qkv: torch.Tensor, bias: torch.Tensor, window: int) -> torch.Tensor:
    """(B, h, w, 3D) -> (B * windows, window, window, 3D); what is padded is the projection of nothing: its bias."""
    batch, height, width, channels = qkv.shape
    down, right = -height % window, -width % window
    if down or right:
        padded = bias.expand(batch, height + down, width + right, channels).clone()
        padded[:, :height, :width] = qkv
        qkv = padded
    parts = qkv.view(batch, (height + down) // window, window, (width + right) // window, window, channels)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, window, window, channels)


def _joined(windows: torch.Tensor, batch: int, height: int, width: int) -> torch.Tensor:
    """The inverse of `_windows`, padding dropped."""
    _, window, _, channels = windows.shape
    down, right = -(-height // window), -(-width // window)
    parts = windows.view(batch, down, right, window, window, channels).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(batch, down * window, right * window, channels)[:, :height, :width]
