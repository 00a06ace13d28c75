"""Small pictures and prompt plans for tests."""

from __future__ import annotations

import cv2
import numpy as np

from autolabel.core.prompts import ClassPlan, PromptPlan, Shape
from autolabel.protocols import RGB
from autolabel.sandbox.scenes import draw

SEED, SIZE_PX = 7378, (640, 448)
RED_XYXY_NORM = (89 / 640, 130 / 448, 299 / 640, 338 / 448)
BLUE_XYXY_NORM = (371 / 640, 86 / 448, 497 / 640, 223 / 448)


def two_swabs(width_px: int = 320, height_px: int = 224) -> RGB:
    """A red gauze on the left and a blue one on the right, stretched where the frame asks for it."""
    scene = draw(SEED, *SIZE_PX, ["red gauze", "blue gauze"])
    return np.asarray(cv2.resize(scene.rgb, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def plan_of(
    *prompts: str, shape: Shape = "bounding_box", threshold: float = 0.3, distractors: tuple[str, ...] = ()
) -> PromptPlan:
    """One class a prompt, its feature hash the prompt itself."""
    classes = [ClassPlan(prompt, prompt, shape, (prompt,), threshold, max_instances=100) for prompt in prompts]
    return PromptPlan(tuple(classes), distractors)
