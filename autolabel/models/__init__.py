"""Detectors and segmenters by the name of their family. Importing this package imports no torch; loading does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from autolabel.core.prompts import TokenCounts
from autolabel.errors import PermanentUsageError
from autolabel.models.placement import Placement
from autolabel.models.weights import TEXT_FILES, is_here, locate, weights_digest
from autolabel.protocols import BoxSegmenter, TextDetector

__all__ = [
    "DETECTORS",
    "SEGMENTERS",
    "Placement",
    "count_tokens",
    "describe_device",
    "is_here",
    "load_detector",
    "load_segmenter",
    "weights_digest",
]

Model = TypeVar("Model")


def _grounding_dino(folder: Path, placement: Placement) -> TextDetector:
    from autolabel.models.grounding_dino import GroundingDinoDetector

    return GroundingDinoDetector.load(folder, placement)


def _sam(folder: Path, placement: Placement) -> BoxSegmenter:
    from autolabel.models.sam import load_sam

    return load_sam(folder, placement)


def _sam_hq(folder: Path, placement: Placement) -> BoxSegmenter:
    from autolabel.models.sam import load_sam_hq

    return load_sam_hq(folder, placement)


def _sam2(folder: Path, placement: Placement) -> BoxSegmenter:
    from autolabel.models.sam import load_sam2

    return load_sam2(folder, placement)


def _segment_anything(checkpoint: Path, placement: Placement) -> BoxSegmenter:
    from autolabel.models.sam_package import PackageSegmenter

    return PackageSegmenter.load(checkpoint, placement)


def _grounding_dino_tokens(folder: Path, prompts: Sequence[str]) -> TokenCounts:
    from autolabel.models.grounding_dino import count_tokens

    return count_tokens(folder, prompts)


DETECTORS: Mapping[str, Callable[[Path, Placement], TextDetector]] = {"grounding_dino": _grounding_dino}
SEGMENTERS: Mapping[str, Callable[[Path, Placement], BoxSegmenter]] = {
    "sam": _sam,
    "sam2": _sam2,
    "sam_hq": _sam_hq,
    "segment_anything": _segment_anything,
}
TOKEN_COUNTERS: Mapping[str, Callable[[Path, Sequence[str]], TokenCounts]] = {
    "grounding_dino": _grounding_dino_tokens
}


def load_detector(family: str, weights: str, placement: Placement) -> TextDetector:
    """A detector that is ready to use where `placement` says.

    `weights` is a folder, a hub id (`IDEA-Research/grounding-dino-tiny`) or `bundled:detector`.

    Raises PermanentModelError when the weights are missing, damaged or of another family; PermanentUsageError on an
    unknown family, and where the device is not there.
    """
    return _loader(DETECTORS, family)(locate(weights), placement)


def count_tokens(family: str, weights: str, prompts: Sequence[str]) -> TokenCounts:
    """What the prompts cost that detector. Needs its tokeniser only; raises what `load_detector` raises."""
    return _loader(TOKEN_COUNTERS, family)(locate(weights, TEXT_FILES), prompts)


def describe_device(device: str) -> str:
    """The device that the models would run on, and the memory it has. Raises PermanentUsageError."""
    from autolabel.models.runtime import describe_device as describe

    return describe(device)


def load_segmenter(family: str, weights: str, placement: Placement) -> BoxSegmenter:
    """As `load_detector`; a hub id would be `facebook/sam-vit-base`, the small one is `bundled:segmenter`."""
    return _loader(SEGMENTERS, family)(locate(weights), placement)


def _loader(loaders: Mapping[str, Model], family: str) -> Model:
    if family not in loaders:
        raise PermanentUsageError(f"no model family {family!r}; there is: {', '.join(sorted(loaders))}")
    return loaders[family]
