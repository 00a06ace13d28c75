"""How well objects keep their identity on moving truth, at the default rate of a frame a second and at native rate.

    pytest tests/figures/test_tracking.py -rP

Boxes wander over a frame of 640x360 and turn at random; a tenth of them is missed, all are off by some per cent, some
are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from trackers.eval.box import box_iou

from autolabel.protocols import Tracker
from autolabel.tracking import BoxTracker
from identities import Figures, judge

FRAME_XY_PX = np.array([640.0, 360.0])
NATIVE_FPS, SECONDS, OBJECTS, SEEDS = 25, 30, 6, range(4)
MISSED, NOISE, MADE_UP, TURNS_PER_SECOND = 0.1, 0.04, 0.02, 0.05

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Sight:
    """A frame: (N,) identities and (N, 4) boxes that are there, (M, 4) boxes that are detected."""

    ids: NDArray[np.int64]
    truth_xyxy_px: Boxes
    found_xyxy_px: Boxes


def wander(random: np.random.Generator, speed_px: float) -> list[Boxes | None]:
    """One object's box on every native frame; None before it comes and after it has gone."""
    size = random.uniform(30, 120, 2)
    place, heading = random.uniform(0, FRAME_XY_PX - size), random.uniform(0, 2 * np.pi)
    pace = speed_px * random.uniform(0.2, 1) / NATIVE_FPS
    total = SECONDS * NATIVE_FPS
    first, last = random.integers(0, total // 3), random.integers(2 * total // 3, total)
    step = pace * np.array([np.cos(heading), np.sin(heading)])
    boxes: list[Boxes | None] = []
    for frame in range(total):
        if random.random() < TURNS_PER_SECOND / NATIVE_FPS:
            heading = random.uniform(0, 2 * np.pi)
            step = pace * np.array([np.cos(heading), np.sin(heading)])
        place = place + step
        out = (place < 0) | (place + size > FRAME_XY_PX)
        step, place = np.where(out, -step, step), np.clip(place, 0, FRAME_XY_PX - size)
        boxes.append(np.concatenate([place, place + size]) if first <= frame < last else None)
    return boxes


def see(random: np.random.Generator, objects: Sequence[Boxes | None]) -> Sight:
    present = [(number, box) for number, box in enumerate(objects) if box is not None]
    truth = np.array([box for _, box in present]).reshape(-1, 4)
    sides = np.tile(truth[:, 2:] - truth[:, :2], 2)
    found = (truth + random.normal(0, NOISE, truth.shape) * sides)[random.random(len(truth)) >= MISSED]
    if random.random() < MADE_UP * len(truth):
        corner = random.uniform(0, FRAME_XY_PX - 80)
        found = np.vstack([found, [*corner, *(corner + random.uniform(20, 80, 2))]])
    return Sight(np.array([number for number, _ in present], np.int64), truth, random.permutation(found))


def scene(seed: int, speed_px: float, samples_per_second: int) -> list[Sight]:
    random = np.random.default_rng(seed)
    paths = [wander(random, speed_px) for _ in range(OBJECTS)]
    return [see(random, objects) for objects in list(zip(*paths, strict=True))[:: NATIVE_FPS // samples_per_second]]


def follow(tracker: Tracker, sights: Sequence[Sight]) -> list[NDArray[np.int32]]:
    return [
        tracker.step(sight.found_xyxy_px.astype(np.float32), np.full(len(sight.found_xyxy_px), 0.5, np.float32))
        for sight in sights
    ]


def overlaps(sight: Sight) -> NDArray[np.float64]:
    if not len(sight.ids) or not len(sight.found_xyxy_px):
        return np.zeros((len(sight.ids), len(sight.found_xyxy_px)))
    iou: NDArray[np.float64] = box_iou(sight.truth_xyxy_px, sight.found_xyxy_px, "xyxy")
    return iou


def judged(sights: Sequence[Sight], tracks: Sequence[NDArray[np.int32]]) -> Figures:
    return judge(
        [sight.ids.tolist() for sight in sights], [some.tolist() for some in tracks], [*map(overlaps, sights)]
    )


@pytest.mark.parametrize(
    ("samples_per_second", "speed_px", "floor"),
    [(1, 15, 0.9), (1, 30, 0.85), (1, 60, 0.75), (25, 60, 0.9), (25, 150, 0.9)],
)
def test_objects_keep_their_identity(samples_per_second: int, speed_px: float, floor: float) -> None:
    scenes = [scene(seed, speed_px, samples_per_second) for seed in SEEDS]
    figures = [judged(sights, follow(BoxTracker(samples_per_second), sights)) for sights in scenes]
    hota, association, idf1, switches = np.mean(figures, axis=0)
    print(
        f"{samples_per_second:2} a second, up to {speed_px:3} px/s: HOTA {hota:.3f}, AssA {association:.3f}, "
        f"IDF1 {idf1:.3f}, {switches:.1f} switches a video of {OBJECTS} objects"
    )
    assert idf1 >= floor
