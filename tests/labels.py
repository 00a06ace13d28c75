"""Instances and ontology classes for tests of what is drawn and shown."""

from __future__ import annotations

import numpy as np

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import Shape
from autolabel.core.rows import OntologyClass

BOX_XYXY_PX = (20.0, 10.0, 60.0, 40.0)


def make_class(name: str = "Car", shape: Shape = "bounding_box", color: str = "#D33115") -> OntologyClass:
    """Its feature hash is its name."""
    return OntologyClass(name, name, shape, color)


def make_instance(
    cls: OntologyClass, *scores: float, size_px: tuple[int, int] = (100, 50), name: str = "AAAAAAAA"
) -> Instance:
    """One object, on frame 0 with the first score, on frame 1 with the second, and so on; its mask fills its box."""
    left, top, right, bottom = map(int, BOX_XYXY_PX)
    mask = (
        None
        if cls.shape == "bounding_box"
        else mask_from_window(np.ones((bottom - top, right - left), bool), left, top, 0.9)
    )
    places = (
        Placement(index, *size_px, Detection(cls.feature_hash, cls.name, score, BOX_XYXY_PX, mask))
        for index, score in enumerate(scores)
    )
    return Instance(name, cls.feature_hash, cls.shape, 0, tuple(places))  # type: ignore[arg-type]
