"""Small pictures and prompt plans for tests."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from autolabel.core.prompts import ClassPlan, PromptPlan, Shape
from autolabel.protocols import RGB

CIRCLE_XYXY_NORM = (0.15, 0.2, 0.38, 0.53)
SQUARE_XYXY_NORM = (0.6, 0.5, 0.82, 0.81)


def two_shapes(width_px: int = 320, height_px: int = 224) -> RGB:
    """A red circle (an ellipse, where the frame asks for it) on the left and a blue square on the right."""
    image = Image.new("RGB", (width_px, height_px), (120, 125, 118))
    draw = ImageDraw.Draw(image)
    scale = (width_px, height_px, width_px, height_px)
    draw.ellipse([a * b for a, b in zip(CIRCLE_XYXY_NORM, scale, strict=True)], fill=(220, 40, 40))
    draw.rectangle([a * b for a, b in zip(SQUARE_XYXY_NORM, scale, strict=True)], fill=(45, 80, 220))
    return np.array(image)


def plan_of(
    *prompts: str, shape: Shape = "bounding_box", threshold: float = 0.3, distractors: tuple[str, ...] = ()
) -> PromptPlan:
    """One class a prompt, its feature hash the prompt itself."""
    classes = [ClassPlan(prompt, prompt, shape, (prompt,), threshold, max_instances=100) for prompt in prompts]
    return PromptPlan(tuple(classes), distractors)
