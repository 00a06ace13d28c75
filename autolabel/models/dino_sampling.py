"""Deformable attention's sampling: a weighted sum of bilinear samples from several feature maps for each query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding_bag

# Cells of nought around each map: a sample whose neighbours all lie outside may be moved there without a change.
BORDER = 2
# Indices and weights of so many queries fit a core's cache; of all 22,000 of a frame they would not.
QUERIES_AT_ONCE = 1024


@dataclass(frozen=True)
class Levels:
    """The feature maps of one frame size, which lie one after the other in a sequence of N cells, row by row.

    - `shapes_hw`: of each map; `sizes_hw` the same as (L, 2) int64, `sizes_wh` as (L, 2) float32, on the device.
    - `starts`: (L,) int64, where each map begins in the sequence.
    """

    shapes_hw: tuple[tuple[int, int], ...]
    sizes_hw: torch.Tensor
    sizes_wh: torch.Tensor
    starts: torch.Tensor

    @classmethod
    def of(cls, shapes_hw: tuple[tuple[int, int], ...], device: torch.device) -> Levels:
        sizes = torch.tensor(shapes_hw, device=device)
        areas = sizes.prod(1)
        return cls(shapes_hw, sizes, sizes.flip(1).float(), areas.cumsum(0) - areas)


def sample(
    kernel: Any, values: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, levels: Levels
) -> torch.Tensor:
    """values (B, N, H, d), points (B, Q, H, L, P, 2) x and y of 0 to 1, weights (B, Q, H, L, P) -> (B, Q, H * d).

    All float32: points of a lower precision would be off by whole cells. On the CPU it is a sum of embeddings, which
    is 11 times as fast as transformers' `grid_sample`; elsewhere it is `kernel`, transformers' own module.
    """
    if values.device.type == "cpu":
        return sample_by_bags(values, points, weights, levels)
    sampled: torch.Tensor = kernel(
        values, levels.sizes_hw, levels.shapes_hw, levels.starts, points, weights, im2col_step=64
    )
    return sampled


def sample_by_bags(values: torch.Tensor, points: torch.Tensor, weights: torch.Tensor, levels: Levels) -> torch.Tensor:
    """See `sample`. A sample is four neighbours, each a row of a table: one bag of rows a query and head, summed."""
    (batch, _, heads, _), (level_count, point_count) = values.shape, points.shape[3:5]
    columns = level_count * point_count
    table, starts = _bordered(values, levels)
    per_head = len(table) // (batch * heads)
    first = torch.tensor(starts).repeat_interleave(point_count)
    base = (torch.arange(batch * heads)[:, None] * per_head + first).view(batch, 1, heads * columns).int()
    size_x, size_y = levels.sizes_wh.repeat_interleave(point_count, 0).repeat(heads, 1).T
    pitch = size_x + 2 * BORDER
    points, weights = points.flatten(2, 4), weights.flatten(2)

    def bag(cells: torch.Tensor, neighbours: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        cells, shares = cells.view(-1, columns), shares.view(-1, columns)
        return embedding_bag(cells, neighbours, mode="sum", per_sample_weights=shares)

    answers = []
    for start in range(0, points.shape[1], QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        left, x_share = _cell_and_share(points[:, part, :, 0], size_x)
        top, y_share = _cell_and_share(points[:, part, :, 1], size_y)
        upper = (top * pitch + left).int() + base
        lower = upper + pitch.int()
        low = weights[:, part] * y_share
        high = weights[:, part] - low
        low_right, high_right = low * x_share, high * x_share
        total = bag(upper, table, high - high_right)
        total += bag(upper, table[1:], high_right)
        total += bag(lower, table, low - low_right)
        total += bag(lower, table[1:], low_right)
        answers.append(total.view(batch, upper.shape[1], -1))
    return torch.cat(answers, dim=1)


def _bordered(values: torch.Tensor, levels: Levels) -> tuple[torch.Tensor, list[int]]:
    """(B, N, H, d) -> rows (B * H * cells, d), each map with its border; and where each map begins in the cells."""
    batch, _, heads, width = values.shape
    padded = [(h + 2 * BORDER, w + 2 * BORDER) for h, w in levels.shapes_hw]
    starts = [sum(h * w for h, w in padded[:level]) for level in range(len(padded))]
    table = values.new_zeros(batch, heads, sum(h * w for h, w in padded), width)
    begin = 0
    for (height, columns), (rows, pitch), start in zip(levels.shapes_hw, padded, starts, strict=True):
        source = values[:, begin : begin + height * columns].transpose(1, 2)
        target = table[:, :, start : start + rows * pitch].view(batch, heads, rows, pitch, width)
        target[:, :, BORDER:-BORDER, BORDER:-BORDER] = source.reshape(batch, heads, height, columns, width)
        begin += height * columns
    return table.view(-1, width), starts


def _cell_and_share(points: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis: the lower neighbour's index in the bordered map, and the upper neighbour's share of 0 to 1.

    NaN, which weights or values carry on, is given a place too: an index must not leave the table.
    """
    cells = (points * sizes - 0.5).fmax(sizes.new_tensor(-BORDER)).fmin(sizes)
    lower = cells.floor()
    return lower + BORDER, cells - lower
