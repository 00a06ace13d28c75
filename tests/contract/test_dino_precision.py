"""How far Grounding DINO's answers drift in bfloat16, on scenes as the demo draws them."""

from __future__ import annotations

import numpy as np

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_iou
from autolabel.models import Placement, load_detector
from autolabel.sandbox.scenes import draw
from pictures import plan_of

NAMES = ["red gauze", "blue gauze", "green scissors", "steel clamp", "white gauze"]
SCENES = 10
# Over 40 scenes and 52 objects: 0.0095 and 0.98; with boxes and sampling points in bfloat16 too, 1.4 times the drift
# of the scores and twice that of the boxes.
MEAN_SCORE_DRIFT, MEAN_IOU = 0.02, 0.97


def drift(found: Detections, other: Detections, row: int) -> tuple[float, float]:
    """One object's change of score, and the IoU of its boxes."""
    column = found.scores[row].argmax()
    iou = box_iou(found.boxes_xyxy_px[row : row + 1], other.boxes_xyxy_px)[0]
    changes = np.abs(other.scores[:, column] - found.scores[row, column])
    nearest = np.where(iou > 0.7, changes, np.inf).argmin()
    return float(changes[nearest]), float(iou[nearest])


def test_scores_and_boxes_drift_little_in_bfloat16() -> None:
    plan = plan_of(*NAMES, threshold=0.05)
    full, half = (load_detector("grounding_dino", "bundled:detector", Placement("cpu", p)) for p in ("fp32", "bf16"))
    drifts = []
    for seed in range(SCENES):
        names = [NAMES[i] for i in np.random.default_rng(seed).choice(len(NAMES), 3, replace=False)]
        frame = draw(9000 + seed, 640, 448, names).rgb
        (found,), (other,) = full.detect([frame], plan), half.detect([frame], plan)
        drifts += [drift(found, other, row) for row in np.flatnonzero(found.scores.max(axis=1) > 0.2)]

    scores, ious = np.array(drifts).T
    print(f"{len(drifts)} objects: score {scores.mean():.4f} (most {scores.max():.3f}), IoU {ious.mean():.3f}")
    assert len(drifts) >= SCENES
    assert scores.mean() <= MEAN_SCORE_DRIFT
    assert ious.mean() >= MEAN_IOU
