"""What models answer and what the ledger keeps: Detections, Mask, FrameLabels. Validated when built."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Mask:
    """One object's pixels inside a window of the frame.

    - `window_xyxy_px`: (left, top, right, bottom), integers, right and bottom exclusive.
    - `counts`: COCO compressed RLE (column-major) of the window, as pycocotools encodes it.
    - `score`: the segmenter's own estimate of its mask IoU, in [0, 1]; never the label's confidence.

    Raises ValueError for a window without area or left of or above the frame, and for another score.
    """

    window_xyxy_px: tuple[int, int, int, int]
    counts: bytes
    score: float

    def __post_init__(self) -> None:
        left, top, right, bottom = self.window_xyxy_px
        if not (0 <= left < right and 0 <= top < bottom):
            raise ValueError(f"a mask's window must have an area in the frame, got {self.window_xyxy_px}")
        if not 0 <= self.score <= 1:  # also for NaN
            raise ValueError(f"a mask's score must be in [0, 1], got {self.score}")


@dataclass(frozen=True)
class Detections:
    """A detector's answer on one frame, in pixels of the original image.

    - `boxes_xyxy_px`: (N, 4) float32; x0 <= x1, y0 <= y1; may reach past the frame's border.
    - `scores`: (N, P) float32 in [0, 1], one column a prompt of the plan, in the plan's order.
    - `masks`: one a box where the detector brings its own (SAM 3), else None.
    - `seen_xyxy_px`: (N, 4) float32, what of the frame was looked at to find each; None where that was all of it.

    Raises ValueError, naming the expected and the actual shape or range.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: tuple[Mask, ...] | None = None
    seen_xyxy_px: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        boxes, scores = self.boxes_xyxy_px, self.scores
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes_xyxy_px must be (N, 4), got {boxes.shape}")
        if scores.ndim != 2 or scores.shape[0] != boxes.shape[0]:
            raise ValueError(f"scores must be ({boxes.shape[0]}, P), got {scores.shape}")
        if self.masks is not None and len(self.masks) != boxes.shape[0]:
            raise ValueError(f"expected {boxes.shape[0]} masks, got {len(self.masks)}")
        if self.seen_xyxy_px is not None and self.seen_xyxy_px.shape != boxes.shape:
            raise ValueError(f"seen_xyxy_px must be {boxes.shape}, got {self.seen_xyxy_px.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("boxes and scores must be finite")
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            raise ValueError(f"scores must be in [0, 1], got {scores.min()} to {scores.max()}")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise ValueError("boxes must have x0 <= x1 and y0 <= y1")


@dataclass(frozen=True)
class Detection:
    """One object that survived suppression: what is stored for it.

    - `box_xyxy_px`: clipped to the frame, with an area > 0.
    - `score`: the detector's class score on this frame, in [0, 1]: the label's confidence.
    - `prompt`: the text that found it.
    """

    feature_hash: str
    prompt: str
    score: float
    box_xyxy_px: tuple[float, float, float, float]
    mask: Mask | None = None


@dataclass(frozen=True)
class FrameLabels:
    """All that inference says about one frame, best first; everything later is a pure function of these.

    - `dropped_by_cap`: class feature hash -> how many detections its `max_instances` cut off.
    - `image_digest`: SHA-256 (hex) of the media file's bytes.
    """

    frame_index: int
    width_px: int
    height_px: int
    detections: tuple[Detection, ...]
    dropped_by_cap: dict[str, int] = field(default_factory=dict)
    image_digest: str = ""


def pack(frames: list[FrameLabels]) -> bytes:
    """Frames -> the ledger's bytes: versioned JSON, zlib-compressed. The inverse of `unpack`."""
    body = {"version": FORMAT_VERSION, "frames": [_frame_to_json(frame) for frame in frames]}
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode())


def unpack(blob: bytes) -> list[FrameLabels]:
    """The ledger's bytes -> frames. Raises ValueError on another version."""
    body = json.loads(zlib.decompress(blob))
    if body["version"] != FORMAT_VERSION:
        raise ValueError(f"detections have format {body['version']}, this release reads {FORMAT_VERSION}")
    return [_frame_from_json(frame) for frame in body["frames"]]


def _frame_to_json(frame: FrameLabels) -> dict[str, Any]:
    return {
        "index": frame.frame_index,
        "size": [frame.width_px, frame.height_px],
        "dropped": frame.dropped_by_cap,
        "digest": frame.image_digest,
        "detections": [
            {
                "class": found.feature_hash,
                "prompt": found.prompt,
                "score": found.score,
                "box": found.box_xyxy_px,
                "mask": found.mask
                and [
                    found.mask.window_xyxy_px,
                    found.mask.counts.decode("ascii"),
                    found.mask.score,
                ],
            }
            for found in frame.detections
        ],
    }


def _frame_from_json(raw: dict[str, Any]) -> FrameLabels:
    return FrameLabels(
        frame_index=raw["index"],
        width_px=raw["size"][0],
        height_px=raw["size"][1],
        detections=tuple(_detection_from_json(found) for found in raw["detections"]),
        dropped_by_cap=raw["dropped"],
        image_digest=raw["digest"],
    )


def _detection_from_json(raw: dict[str, Any]) -> Detection:
    mask = raw["mask"]
    x0, y0, x1, y1 = raw["box"]
    return Detection(
        feature_hash=raw["class"],
        prompt=raw["prompt"],
        score=raw["score"],
        box_xyxy_px=(x0, y0, x1, y1),
        mask=mask and Mask(tuple(mask[0]), mask[1].encode("ascii"), mask[2]),
    )
