"""Scenes to train on. A pool is filled once and then renewed a little every step, so that it never goes stale."""

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from autolabel.sandbox.scenes import Scene, draw
from training.names import SEEN

# Far from the seeds of the demo (7,000) and of the judge (900,000).
FIRST_SEED = {"detector": 10_000_000, "segmenter": 20_000_000}
SEEDS_A_ROUND = 1_000_000
SIZES_PX = ((640, 480), (640, 360), (480, 480), (360, 640), (480, 360))
SHARES = (0.35, 0.2, 0.15, 0.15, 0.15)
MOVED_SHARE = 0.3
LATEST_S = 8.0

Sample = TypeVar("Sample")


class Pool(Generic[Sample]):
    """`prepared`: makes what is kept of a scene."""

    def __init__(
        self, size: int, first_seed: int, rng: np.random.Generator, prepared: Callable[[Scene], Sample]
    ) -> None:
        self._next_seed = first_seed
        self._rng = rng
        self._prepared = prepared
        self._samples = [self._fresh() for _ in range(size)]

    def _fresh(self) -> Sample:
        while True:
            width_px, height_px = SIZES_PX[self._rng.choice(len(SIZES_PX), p=SHARES)]
            time_s = self._rng.uniform(0, LATEST_S) if self._rng.random() < MOVED_SHARE else 0.0
            scene = draw(self._next_seed, width_px, height_px, SEEN, time_s)
            self._next_seed += 1
            if scene.objects:
                return self._prepared(scene)

    def renew(self, count: int) -> None:
        for _ in range(count):
            self._samples[self._rng.integers(len(self._samples))] = self._fresh()

    def pick(self, count: int, fits: Callable[[Sample], bool] = lambda _: True) -> list[Sample]:
        picked: list[Sample] = []
        while len(picked) < count:
            sample = self._samples[self._rng.integers(len(self._samples))]
            if fits(sample):
                picked.append(sample)
        return picked
