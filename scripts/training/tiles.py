"""Judges tiles on frames with large tools and with small ones strewn between them; prints a table, draws pictures."""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from autolabel.core.detections import Detection
from autolabel.core.geometry import box_areas, box_iou, mask_to_frame
from autolabel.core.merging import clip_to
from autolabel.models import Placement, load_detector, load_segmenter
from autolabel.pipeline import TilingDetector, infer
from autolabel.sandbox.scenes import draw
from training.evaluate import CROSS_CLASS_IOU, NMS_IOU, box_xyxy_px, plan_of
from training.names import SEEN, asked

# A small tool takes as much of a tile's side as a tool takes of a frame's in training.
SIZE_PX, SMALL_SIZE_PX = (1280, 960), (240, 240)
TILE_PX, OVERLAP = 320, 0.25
FIRST_SEED = 2_800_000
SMALL_ONES, KINDS = 10, 4
THRESHOLD = 0.2

Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Strewn:
    """A frame, its tools' names and boxes (N, 4), and which of them are small."""

    rgb: NDArray[np.uint8]
    names: list[str]
    boxes_xyxy_px: Boxes
    is_small: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.tiles", description=__doc__)
    parser.add_argument("--frames", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each of the first frames and ways")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_detector("grounding_dino", "bundled:detector", Placement("cpu"))
    segmenter = load_segmenter("sam", "bundled:segmenter", Placement("cpu"))
    frames = [(seed, strewn(seed)) for seed in range(FIRST_SEED, FIRST_SEED + args.frames)]
    print("| looks | recall of small | recall of large | precision | halves | cpu-s a frame |\n|" + " --- |" * 6)
    for title, eyes in (("whole frame", detector), ("and tiles", TilingDetector(detector, TILE_PX, OVERLAP))):
        counts, start = np.zeros(7, np.int64), time.process_time()
        for seed, frame in frames:
            plan = plan_of(asked(frame.names, np.random.default_rng(seed)))
            (labels,) = infer([(0, frame.rgb)], plan, eyes, segmenter, NMS_IOU, CROSS_CLASS_IOU)
            found = [one for one in labels.detections if one.score >= THRESHOLD]
            counts += outcome(frame, found)
            if args.pictures and seed < FIRST_SEED + 4:
                _draw(frame, labels.detections, args.pictures / f"{seed}-{title.replace(' ', '-')}.png")
        seconds = (time.process_time() - start) / args.frames
        small, smalls, large, larges, right, answers, halves = counts.tolist()
        parts = ((small, smalls), (large, larges), (right, answers))
        shares = " | ".join(f"{part / whole:.2f} of {whole}" for part, whole in parts)
        print(f"| {title} | {shares} | {halves} | {seconds:.2f} |", flush=True)


def strewn(seed: int) -> Strewn:
    """A drawn scene with small tools of other scenes pasted wherever a few tries find nothing else."""
    rng = np.random.default_rng(seed)
    kinds = [SEEN[i] for i in rng.choice(len(SEEN), KINDS, replace=False)]
    scene = draw(seed, *SIZE_PX, kinds)
    rgb, taken = scene.rgb.copy(), np.zeros(scene.rgb.shape[:2], np.bool_)
    for one in scene.objects:
        taken |= one.mask
    names, boxes = [one.name for one in scene.objects], [box_xyxy_px(one.mask)[0] for one in scene.objects]
    larges = len(names)
    for name, pixels, shape in _cut_out(seed, kinds):
        height, width = shape.shape
        for _ in range(20):
            x, y = int(rng.integers(SIZE_PX[0] - width)), int(rng.integers(SIZE_PX[1] - height))
            if not taken[y : y + height, x : x + width].any():
                rgb[y : y + height, x : x + width][shape] = pixels[shape]
                taken[y : y + height, x : x + width] = True
                names.append(name)
                boxes.append(np.array([x, y, x + width, y + height], np.float32))
                break
    is_small = np.arange(len(names)) >= larges
    return Strewn(rgb, names, np.array(boxes, np.float32).reshape(-1, 4), is_small)


def _cut_out(seed: int, kinds: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Small tools: name, pixels and mask of each, as large as its box."""
    for i in range(SMALL_ONES):
        scene = draw(seed * 100 + i, *SMALL_SIZE_PX, kinds)
        for one in scene.objects[-1:]:  # lies on top
            x0, y0, x1, y1 = box_xyxy_px(one.mask)[0].astype(int).tolist()
            yield one.name, scene.rgb[y0:y1, x0:x1], one.mask[y0:y1, x0:x1]


def outcome(frame: Strewn, found: Sequence[Detection]) -> NDArray[np.int64]:
    """Small ones met and all, large ones met and all, right answers and all, and halves: boxes that lie on an object,
    meet none and fill less than 70 % of it."""
    boxes = np.array([one.box_xyxy_px for one in found], np.float32).reshape(-1, 4)
    same = np.array([[one.prompt == name for name in frame.names] for one in found], np.bool_).reshape(
        -1, len(frame.names)
    )
    meets = box_iou(boxes, frame.boxes_xyxy_px) >= 0.5
    met = np.asarray((meets & same).any(axis=0))
    right = np.count_nonzero((meets & same).any(axis=1))
    halves = 0
    for box, is_met in zip(boxes, np.any(meets, axis=1).tolist(), strict=True):
        inside = box_areas(clip_to(box[None], frame.boxes_xyxy_px))
        lies_on = (inside >= 0.9 * box_areas(box[None])) & (inside <= 0.7 * box_areas(frame.boxes_xyxy_px))
        halves += bool(lies_on.any() and not is_met)
    small = frame.is_small
    return np.array([met[small].sum(), small.sum(), met[~small].sum(), (~small).sum(), right, len(found), halves])


def _draw(frame: Strewn, found: Sequence[Detection], path: Path) -> None:
    picture = frame.rgb.copy()
    height, width = picture.shape[:2]
    for one in found:
        if one.score >= THRESHOLD:
            x0, y0, x1, y1 = (round(value) for value in one.box_xyxy_px)
            if one.mask is not None:
                picture[mask_to_frame(one.mask, width, height)] //= 2
            cv2.rectangle(picture, (x0, y0), (x1, y1), (255, 255, 0), 2)
            cv2.putText(
                picture, f"{one.prompt} {one.score:.2f}", (x0, y0 - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0)
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])


if __name__ == "__main__":
    main()
