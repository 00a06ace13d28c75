"""The fake model of both sides: what it finds is decided by a key alone, so that who found it is no matter."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAMILY = "fake"
RECIPE = f'detector: {{family: {FAMILY}, weights: "bundled:detector"}}\n'
SECONDS_A_PICTURE = 0.03
WAITING_FAMILY = "waiting"
SECONDS_A_BATCH = 0.02
OBJECTS = 5
POINTS = 60
CELLS = 3
"""Objects lie in cells of their own of a grid so wide: no two overlap."""


@dataclass(frozen=True)
class Find:
    """An object: its box (left, top, right, bottom) in fractions of the frame, and its score."""

    box_xyxy_norm: tuple[float, float, float, float]
    score: float

    @property
    def star_norm(self) -> NDArray[np.float64]:
        """(POINTS, 2) corners of a star that fills the box: every one of them is needed to draw it."""
        left, top, right, bottom = self.box_xyxy_norm
        angles = np.arange(POINTS) * (2 * math.pi / POINTS)
        radii = np.where(np.arange(POINTS) % 2, 0.42, 0.5)[:, None]
        star = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii + 0.5
        return star * (right - left, bottom - top) + (left, top)


def find(key: bytes) -> list[Find]:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8]))
    cells = rng.choice(CELLS * CELLS, OBJECTS, replace=False)
    return [_in_cell(int(cell) % CELLS, int(cell) // CELLS, rng) for cell in cells]


def _in_cell(column: int, row: int, rng: np.random.Generator) -> Find:
    left, top = (column + rng.uniform(0.05, 0.2)) / CELLS, (row + rng.uniform(0.05, 0.2)) / CELLS
    right, bottom = (column + rng.uniform(0.8, 0.95)) / CELLS, (row + rng.uniform(0.8, 0.95)) / CELLS
    return Find((left, top, right, bottom), float(rng.uniform(0.5, 0.95)))
