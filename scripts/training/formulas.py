"""Judges ways to make a prompt's score of its tokens' probabilities, on fresh frames, and prints a table.

One forward a frame; each formula then goes through the same suppression and the same judge, at the same seeds.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from autolabel.core.detections import Detection, Detections
from autolabel.core.geometry import box_iou
from autolabel.core.prompts import prompt_spans
from autolabel.core.suppress import suppress
from autolabel.models.dino_text import DELIMITER_IDS, correct_text_positions
from autolabel.models.weights import locate
from autolabel.sandbox.scenes import draw
from training.evaluate import CROSS_CLASS_IOU, LEAST_SCORE, NMS_IOU, Judged, ap50, box_xyxy_px, plan_of
from training.names import HELD_OUT, NAMES, SEEN, asked

Floats = NDArray[np.float64]
Formula = Callable[[Floats], Floats]
"""(Q, T) probabilities of a prompt's tokens -> (Q,) scores."""


def _logits_mean(p: Floats) -> Floats:
    mean = np.log(p / (1 - p)).mean(1)
    scores: Floats = 1 / (1 + np.exp(-mean))
    return scores


FORMULAS: Mapping[str, Formula] = {
    "(mean + min) / 2": lambda p: (p.mean(1) + p.min(1)) / 2,
    "mean": lambda p: p.mean(1),
    "min": lambda p: p.min(1),
    "geometric mean": lambda p: np.exp(np.log(p).mean(1)),
    "product": lambda p: p.prod(1),
    "harmonic mean": lambda p: 1 / (1 / p).mean(1),
    "mean of logits": _logits_mean,
    "first token": lambda p: p[:, 0],
    "last token": lambda p: p[:, -1],
    "max": lambda p: p.max(1),
}
TESTS = {"seen": (SEEN, (640, 480)), "held out": (HELD_OUT, (640, 480)), "all": (NAMES, (640, 360))}
FIRST_SEEDS = (2_000_000, 2_100_000, 2_200_000)
HEADER = (
    "| formula | AP50 seen | held out | all | least to most of the seeds | P / R / F1 at {threshold} | best F1 at "
    "| ECE |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Seen:
    """A frame's truth, the phrases it was asked, and what the model says: boxes, token probabilities a phrase."""

    names: list[str]
    masks: list[NDArray[np.bool_]]
    phrases: list[str]
    boxes_xyxy_px: NDArray[np.float32]
    tokens: list[Floats]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.formulas", description=__doc__)
    parser.add_argument("--frames", type=int, default=60, help="frames a test and seed (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.2, help="as shipped (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen = {(test, first): list(_look(first, args.frames, *TESTS[test])) for test in TESTS for first in FIRST_SEEDS}
    print(HEADER.format(threshold=args.threshold))
    for title, formula in FORMULAS.items():
        judged = {key: [_judged(one, formula) for one in frames] for key, frames in seen.items()}
        print(_row(title, judged, args.threshold), flush=True)


def _look(first_seed: int, frames: int, names: list[str], size_px: tuple[int, int]) -> Iterator[Seen]:
    folder = locate("bundled:detector")
    processor: Any = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    correct_text_positions(model)
    for seed in range(first_seed, first_seed + frames):
        scene = draw(seed, *size_px, names)
        phrases = asked([item.name for item in scene.objects], np.random.default_rng(seed))
        inputs = processor(images=Image.fromarray(scene.rgb), text=". ".join(phrases) + ".", return_tensors="pt")
        with torch.inference_mode():
            out = model(**inputs)
        probability = out.logits[0].double().sigmoid().numpy()
        spans = prompt_spans(inputs.input_ids[0].tolist(), DELIMITER_IDS)
        centre, side = np.split(out.pred_boxes[0].numpy() * np.array(size_px * 2, np.float32), 2, axis=1)
        yield Seen(
            [item.name for item in scene.objects],
            [item.mask for item in scene.objects],
            phrases,
            np.hstack([centre - side / 2, centre + side / 2]),
            [probability[:, span] for span in spans],
        )


def _judged(seen: Seen, formula: Formula) -> Judged:
    scores = np.stack([formula(tokens) for tokens in seen.tokens], axis=1).clip(0, 1).astype(np.float32)
    return judged(seen.names, seen.masks, seen.phrases, Detections(seen.boxes_xyxy_px, scores))


def judged(
    names: list[str],
    masks: list[NDArray[np.bool_]],
    phrases: Sequence[str],
    found: Detections,
    cross_class_iou: float = CROSS_CLASS_IOU,
) -> Judged:
    """A frame's truth beside what suppression keeps of a detector's answer; boxes only."""
    height, width = masks[0].shape if masks else (480, 640)
    kept = suppress(found, plan_of(phrases), (width, height), NMS_IOU, cross_class_iou)
    nothing = np.zeros((0, 0), np.bool_)
    columns = zip(kept.class_index, kept.scores.tolist(), kept.boxes_xyxy_px.tolist(), strict=True)
    answers = [
        (phrases[owner], Detection(phrases[owner], phrases[owner], score, (x0, y0, x1, y1)), nothing)
        for owner, score, (x0, y0, x1, y1) in columns
    ]
    return Judged(names, masks, answers)


def _row(title: str, judged: Mapping[tuple[str, int], Sequence[Judged]], threshold: float) -> str:
    ap = {key: ap50(frames, "bbox", True) for key, frames in judged.items()}
    means = [np.mean([value for (name, _), value in ap.items() if name == test]) for test in TESTS]
    by_seed = [np.mean([value for (_, first), value in ap.items() if first == seed]) for seed in FIRST_SEEDS]
    frames = [frame for part in judged.values() for frame in part]
    truths = sum(len(frame.names) for frame in frames)
    outcomes = np.array([outcome for frame in frames for outcome in right_or_wrong(frame)]).reshape(-1, 2)
    at = precision_recall_f1(outcomes, truths, threshold)
    best = max((precision_recall_f1(outcomes, truths, t)[2], t) for t in np.arange(0.05, 0.9, 0.01))
    figures = " | ".join(f"{value:.3f}" for value in means)
    return (
        f"| {title} | {figures} | {min(by_seed):.3f} to {max(by_seed):.3f} | {' / '.join(f'{x:.3f}' for x in at)} "
        f"| {best[0]:.3f} at {best[1]:.2f} | {_calibration_error(outcomes):.3f} |"
    )


def right_or_wrong(frame: Judged) -> list[tuple[float, bool]]:
    """(score, whether it is right) of each detection: the first on an object of its name, with IoU 0.5."""
    taken: set[int] = set()
    outcomes = []
    for name, one, _ in frame.found:  # best first
        box = np.array([one.box_xyxy_px], np.float32)
        ious = {
            i: float(box_iou(box_xyxy_px(mask), box)[0, 0])
            for i, mask in enumerate(frame.masks)
            if frame.names[i] == name and i not in taken
        }
        best = max(ious, key=lambda i: ious[i], default=None)
        is_right = best is not None and ious[best] >= 0.5
        taken |= {best} if best is not None and is_right else set()
        outcomes.append((one.score, is_right))
    return outcomes


def precision_recall_f1(outcomes: Floats, truths: int, threshold: float) -> tuple[float, float, float]:
    """Of (score, is right) pairs."""
    kept = outcomes[outcomes[:, 0] >= threshold]
    right = float(kept[:, 1].sum())
    return right / max(1, len(kept)), right / truths, 2 * right / (len(kept) + truths)


def _calibration_error(outcomes: Floats) -> float:
    """Mean distance of score and share of right ones over ten equal bins of [LEAST_SCORE, 1], weighed by count."""
    bins = np.digitize(outcomes[:, 0], np.linspace(LEAST_SCORE, 1, 11)[1:-1])
    parts = [outcomes[bins == i] for i in range(10)]
    off = sum(len(part) * abs(part[:, 0].mean() - part[:, 1].mean()) for part in parts if len(part))
    return float(off) / max(1, len(outcomes))


if __name__ == "__main__":
    main()
