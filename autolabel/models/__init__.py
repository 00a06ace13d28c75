"""Detectors and segmenters by the name of their family. Importing this package imports no torch; loading does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from autolabel.errors import PermanentUsageError
from autolabel.models.weights import locate, weights_digest
from autolabel.protocols import BoxSegmenter, TextDetector

__all__ = ["DETECTORS", "SEGMENTERS", "load_detector", "load_segmenter", "weights_digest"]

Model = TypeVar("Model")


def _grounding_dino(folder: Path, device: str) -> TextDetector:
    from autolabel.models.grounding_dino import GroundingDinoDetector

    return GroundingDinoDetector.load(folder, device)


def _sam(folder: Path, device: str) -> BoxSegmenter:
    from autolabel.models.sam import SamSegmenter

    return SamSegmenter.load(folder, device)


DETECTORS: Mapping[str, Callable[[Path, str], TextDetector]] = {"grounding_dino": _grounding_dino}
SEGMENTERS: Mapping[str, Callable[[Path, str], BoxSegmenter]] = {"sam": _sam}


def load_detector(family: str, weights: str, device: str) -> TextDetector:
    """A detector that is ready to use on `device` (torch's word: "cpu", "cuda", "cuda:1").

    `weights` is a folder, a hub id (`IDEA-Research/grounding-dino-tiny`) or `bundled:detector`.

    Raises PermanentModelError when the weights are missing, damaged or of another family, or the device is not
    there; PermanentUsageError on an unknown family.
    """
    return _loader(DETECTORS, family)(locate(weights), device)


def load_segmenter(family: str, weights: str, device: str) -> BoxSegmenter:
    """As `load_detector`; a hub id would be `facebook/sam-vit-base`, the small one is `bundled:segmenter`."""
    return _loader(SEGMENTERS, family)(locate(weights), device)


def _loader(loaders: Mapping[str, Callable[[Path, str], Model]], family: str) -> Callable[[Path, str], Model]:
    if family not in loaders:
        raise PermanentUsageError(f"no model family {family!r}; there is: {', '.join(sorted(loaders))}")
    return loaders[family]
