"""`autolabel` as it is, with one model family more: the fake one. Arguments are those of the command line."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autolabel import __main__, models
from autolabel.core.detections import Detections
from autolabel.core.prompts import PromptPlan
from autolabel.protocols import RGB, TextDetector
from benching.finds import FAMILY, SECONDS_A_PICTURE, find


class FakeDetector:
    """A `TextDetector`."""

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        return [self._on(image, len(plan.prompts)) for image in images]

    def _on(self, image: RGB, prompts: int) -> Detections:
        time.sleep(SECONDS_A_PICTURE)
        height, width, _ = image.shape
        found = find(np.ascontiguousarray(image).tobytes())
        boxes = np.array([item.box_xyxy_norm for item in found]) * (width, height, width, height)
        scores = np.zeros((len(found), prompts), np.float32)
        scores[:, 0] = [item.score for item in found]
        return Detections(boxes.astype(np.float32), scores)


def _load(folder: Path, placement: models.Placement) -> TextDetector:
    return FakeDetector()


models.DETECTORS = {
    **models.DETECTORS,
    FAMILY: _load,
}  # also in the inference process, which imports this module anew

if __name__ == "__main__":
    __main__.main()
