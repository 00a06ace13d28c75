"""`autolabel` as it is, with two fake model families more. Arguments are those of the command line."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autolabel import __main__, models
from autolabel.core.detections import Detections
from autolabel.core.prompts import PromptPlan
from autolabel.protocols import RGB, TextDetector
from benching.finds import FAMILY, SECONDS_A_BATCH, SECONDS_A_PICTURE, WAITING_FAMILY, find


@dataclass(frozen=True)
class FakeDetector:
    """A `TextDetector` that only waits: so long for any batch, and on top for each picture of it."""

    a_batch_s: float
    a_picture_s: float

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        time.sleep(self.a_batch_s + self.a_picture_s * len(images))
        return [self._on(image, len(plan.prompts)) for image in images]

    def _on(self, image: RGB, prompts: int) -> Detections:
        height, width, _ = image.shape
        found = find(np.ascontiguousarray(image).tobytes())
        boxes = np.array([item.box_xyxy_norm for item in found]) * (width, height, width, height)
        scores = np.zeros((len(found), prompts), np.float32)
        scores[:, 0] = [item.score for item in found]
        return Detections(boxes.astype(np.float32), scores)


def _load(folder: Path, placement: models.Placement) -> TextDetector:
    return FakeDetector(0.0, SECONDS_A_PICTURE)


def _load_waiting(folder: Path, placement: models.Placement) -> TextDetector:
    return FakeDetector(SECONDS_A_BATCH, 0.0)


models.DETECTORS = {
    **models.DETECTORS,
    FAMILY: _load,
    WAITING_FAMILY: _load_waiting,
}  # also in the inference process, which imports this module anew

if __name__ == "__main__":
    __main__.main()
