"""Judges how many prompts should share a pass, and when boxes of two classes are one thing; prints two tables."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_iou
from autolabel.models import Placement, load_detector
from autolabel.sandbox.scenes import Scene, draw
from training.evaluate import CROSS_CLASS_IOU, Judged, ap50, box_xyxy_px, plan_of
from training.formulas import TESTS, judged, precision_recall_f1, right_or_wrong
from training.names import asked

FIRST_SEEDS = (2_300_000, 2_400_000, 2_500_000)
PER_PASS = (None, 4, 2, 1)
CROSS_CLASS_IOUS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
HEADER = "| AP50 seen | held out | all | least to most of the seeds | P / R / F1 at {} | objects given twice |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.passes", description=__doc__)
    parser.add_argument("--frames", type=int, default=40, help="frames a test and seed (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.2, help="as shipped (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    detector = load_detector("grounding_dino", "bundled:detector", Placement("cpu"))
    asking = {
        (test, first): [_asking(seed, test) for seed in range(first, first + args.frames)]
        for test in TESTS
        for first in FIRST_SEEDS
    }
    found: dict[int | None, dict[tuple[str, int], list[Detections]]] = {}
    print(f"| prompts a pass | cpu-s a frame {HEADER.format(args.threshold)}\n|{' --- |' * 8}")
    for per_pass in PER_PASS:
        start = time.process_time()
        found[per_pass] = {
            key: [
                detector.detect([scene.rgb], replace(plan_of(phrases), per_pass=per_pass))[0]
                for scene, phrases in few
            ]
            for key, few in asking.items()
        }
        seconds = (time.process_time() - start) / sum(map(len, asking.values()))
        print(
            f"| {per_pass or 'all'} | {seconds:.3f} | {_figures(asking, found[per_pass], args.threshold)}", flush=True
        )
    print(f"\n| prompts a pass | cross_class_iou {HEADER.format(args.threshold)}\n|{' --- |' * 8}")
    for per_pass in PER_PASS:
        for iou in CROSS_CLASS_IOUS:
            print(f"| {per_pass or 'all'} | {iou} | {_figures(asking, found[per_pass], args.threshold, iou)}")


Asking = dict[tuple[str, int], list[tuple[Scene, list[str]]]]


def _asking(seed: int, test: str) -> tuple[Scene, list[str]]:
    names, size_px = TESTS[test]
    scene = draw(seed, *size_px, names)
    return scene, asked([item.name for item in scene.objects], np.random.default_rng(seed))


def _figures(
    asking: Asking, found: dict[tuple[str, int], list[Detections]], threshold: float, iou: float = CROSS_CLASS_IOU
) -> str:
    frames = {
        key: [
            judged([one.name for one in scene.objects], [one.mask for one in scene.objects], phrases, answer, iou)
            for (scene, phrases), answer in zip(few, found[key], strict=True)
        ]
        for key, few in asking.items()
    }
    ap = {key: ap50(few, "bbox", True) for key, few in frames.items()}
    means = [np.mean([value for (name, _), value in ap.items() if name == test]) for test in TESTS]
    by_seed = [np.mean([value for (_, first), value in ap.items() if first == seed]) for seed in FIRST_SEEDS]
    all_frames = [frame for few in frames.values() for frame in few]
    outcomes = np.array([outcome for frame in all_frames for outcome in right_or_wrong(frame)]).reshape(-1, 2)
    truths = sum(len(frame.names) for frame in all_frames)
    at = precision_recall_f1(outcomes, truths, threshold)
    return (
        f"{' | '.join(f'{value:.3f}' for value in means)} | {min(by_seed):.3f} to {max(by_seed):.3f} "
        f"| {' / '.join(f'{x:.3f}' for x in at)} | {given_twice(all_frames, threshold)} of {truths} |"
    )


def given_twice(frames: Sequence[Judged], threshold: float) -> int:
    """Objects that two detections over the threshold, of any class, meet with IoU 0.5, each better than any other."""
    twice = 0
    for frame in frames:
        boxes = [one.box_xyxy_px for _, one, _ in frame.found if one.score >= threshold]
        if not frame.masks or len(boxes) < 2:
            continue
        truth = np.concatenate([box_xyxy_px(mask) for mask in frame.masks])
        iou = box_iou(np.array(boxes, np.float32), truth)
        homes = [int(row.argmax()) for row in iou if row.max() >= 0.5]
        twice += sum(a == b for a, b in combinations(sorted(homes), 2))
    return twice


if __name__ == "__main__":
    main()
