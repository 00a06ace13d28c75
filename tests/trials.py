"""What a trial might say, made up: for tests of its page, and to look at."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np

from autolabel.album import Picture
from autolabel.core.overlay import Mark
from autolabel.core.prompts import ClassPlan, PromptPlan, Shape
from autolabel.core.rows import OntologyClass
from autolabel.evaluation.values import (
    Difference,
    Estimate,
    Floats,
    Precision,
    Rates,
    Reliability,
    TooFew,
    Verdict,
    Worth,
)
from autolabel.preview import COLORS
from autolabel.trial import ClassTrial, Miss, Trial, Versus
from platform_fakes import RECIPE, make_project, make_row

TRIAL_ID = "20261122-070000-ab12"
COSTS = SimpleNamespace(
    draw_box_s=7.0,
    draw_mask_s=27.0,
    adjust_box_s=3.8,
    adjust_mask_s=8.0,
    check_s=1.4,
    delete_s=1.6,
    good_iou=0.8,
)
DRAWING_S: dict[Shape, float] = {
    "bounding_box": 7.0,
    "rotatable_bounding_box": 10.0,
    "polygon": 35.0,
    "bitmask": 40.0,
}


def make_rates(quality: float) -> Rates:
    """Curves such as a detector has: the better, the higher both are."""
    thresholds = np.round(np.arange(0.05, 1.0, 0.01), 2)
    precision = np.clip(quality + (1 - quality) * thresholds - 0.1, 0.01, 1)
    recall = quality / (1 + np.exp(12 * (thresholds - 0.55)))
    f1 = 2 * precision * recall / (precision + recall)
    return Rates(thresholds, *(_band(values) for values in (precision, recall, f1)))


def _band(values: Floats) -> Floats:
    return np.stack([values, np.clip(values - 0.06, 0, 1), np.clip(values + 0.05, 0, 1)])


def make_reliability() -> Reliability:
    score = np.linspace(0.1, 0.9, 10)
    right = np.clip(score**2 + 0.08, 0, 1)
    knots = tuple(zip(score.tolist(), right.tolist(), strict=True))
    return Reliability(score, right, np.full(10, 24), np.clip(right + 0.02, 0, 1), 0.141, 0.022, 0.019, knots)


def make_plan(name: str, shape: Shape = "bounding_box") -> ClassPlan:
    """Its feature hash is its name."""
    return ClassPlan(name, name, shape, (name.lower(),), 0.35, 20)


def worth_it(name: str, shape: Shape = "bounding_box", quality: float = 0.85, objects: int = 212) -> ClassTrial:
    drawing_s = DRAWING_S[shape]
    saved_s = Estimate(0.8 * quality * drawing_s, 0.7 * quality * drawing_s, 0.9 * quality * drawing_s)
    has_mask = shape != "bounding_box"
    text = f"saves {saved_s.value:.1f} s of {drawing_s:.1f} s an object ({saved_s.low:.1f} to {saved_s.high:.1f})"
    return ClassTrial(
        plan=make_plan(name, shape),
        color=COLORS[len(name) % len(COLORS)],
        objects=objects,
        rows=47,
        found=3 * objects,
        rates=make_rates(quality),
        precision=Precision(0.412, 0.671, *((0.398, 0.65) if has_mask else ())),
        iou=Estimate(0.871, 0.85, 0.89),
        boundary_iou=Estimate(0.644, 0.61, 0.68) if has_mask else None,
        verdict=Verdict(Worth.YES, 0.41, saved_s, drawing_s, text),
        reliability=make_reliability(),
    )


def not_worth_it(name: str, objects: int = 88) -> ClassTrial:
    text = "not worth it: pre-labels would cost 2.3 s an object more than drawing"
    verdict = Verdict(Worth.NO, 0.62, Estimate(-2.3, -3.1, -1.4), 7.0, text)
    too_few = TooFew(61, 100, "detections")
    return replace(worth_it(name, quality=0.2, objects=objects), verdict=verdict, reliability=too_few)


def not_told(name: str, objects: int = 12) -> ClassTrial:
    too_few = TooFew(objects, 30, "objects")
    text = f"cannot be told yet: {too_few}; {30 - objects} more are needed"
    return replace(
        worth_it(name, objects=objects),
        rows=min(objects, 5),
        rates=too_few,
        precision=too_few,
        reliability=TooFew(9, 100, "detections"),
        verdict=Verdict(Worth.UNKNOWN, None, too_few, 7.0, text),
    )


def make_trial(classes: Sequence[ClassTrial], misses: Sequence[Miss] = (), title: str = "Surgical tools") -> Trial:
    ontology = tuple(OntologyClass(c.plan.feature_hash, c.plan.name, c.plan.shape, c.color) for c in classes)
    first, *others = [c.plan.feature_hash for c in classes]
    mixed_up = {(first, other): 3 * i + 1 for i, other in enumerate(others)}
    told = any(c.verdict.worth is not Worth.UNKNOWN for c in classes)
    saved_s = Estimate(4.1, 3.2, 4.9) if told else TooFew(sum(c.objects for c in classes), 30, "objects")
    return Trial(
        id=TRIAL_ID,
        project=replace(make_project(), title=title, classes=ontology),
        recipe=replace(RECIPE, plan=PromptPlan(tuple(c.plan for c in classes), ("shadow",))),
        stage="Complete",
        rows=[
            (50, "judged"),
            (3, "set aside: the file is no picture or video that can be decoded"),
            (61, "not asked for"),
        ],
        judged_rows=50,
        judged_frames=62,
        classes=classes,
        together=Verdict(
            Worth.YES if told else Worth.UNKNOWN,
            None,
            saved_s,
            11.2,
            "saves 4.1 s of 11.2 s an object (3.2 to 4.9)" if told else f"cannot be told yet: {saved_s}",
        ),
        confusion={(c.plan.feature_hash,) * 2: c.objects // 2 for c in classes}
        | {(c.plan.feature_hash, None): c.objects // 5 for c in classes}
        | {(None, c.plan.feature_hash): c.found // 20 for c in classes}
        | mixed_up,
        prelabelled=4,
        costs=COSTS,
        outcomes={},
        misses=misses,
        messages=["tray-17.png: the file is no picture or video that can be decoded"],
        unlabelled_frames=0,
        other_objects=0,
    )


def make_miss(name: str, text: str = "2 false, 1 missed", size_px: tuple[int, int] = (320, 200)) -> Miss:
    """A frame with an object found rightly, one found falsely and one missed."""
    width, height = size_px
    shade = np.linspace(60, 140, width, dtype=np.uint8)
    ok, jpeg = cv2.imencode(".jpg", np.repeat(np.tile(shade, (height, 1))[:, :, None], 3, axis=2))
    assert ok
    boxes = {"right": (20, "#2a9d4b"), "false": (120, "#d33115"), "missed": (220, "#e27300")}
    marks = tuple(
        Mark(((x, 50), (x + 70, 50), (x + 70, 130), (x, 130)), f"{what}: scissors", (x, 45), color, "#fff")
        for what, (x, color) in boxes.items()
    )
    picture = Picture(0, None, width, height, base64.b64encode(jpeg.tobytes()).decode(), 12.0, marks)
    return Miss(make_row(name), picture, text, 31.4)


def surgical_trial() -> Trial:
    """Six classes of which some are worth it, some are not, and one cannot be told yet."""
    return make_trial(
        [
            worth_it("gold needle holder", "polygon", 0.9),
            worth_it("black forceps", "bitmask", 0.8, 143),
            worth_it("white gauze", "bounding_box", 0.7, 96),
            worth_it("steel scalpel", "rotatable_bounding_box", 0.5, 64),
            not_worth_it("steel scissors"),
            not_told("blue syringe"),
        ],
        [make_miss(f"tray-{i:04d}", size_px=(320, 200) if i % 3 else (150, 220)) for i in range(1, 7)],
    )


def big_trial() -> Trial:
    """44 classes, as a large ontology has them."""
    worth = [worth_it(f"Street thing {i:02d}", quality=0.9 - i / 20) for i in range(6)]
    not_worth = [not_worth_it(f"Rare sign {i:02d}") for i in range(4)]
    return make_trial([*worth, *not_worth, *(not_told(f"Unseen {i:02d}", i % 30) for i in range(34))], title="City")


def make_versus() -> Versus:
    better = Difference(
        recall=Estimate(0.12, 0.05, 0.19),
        precision=Estimate(-0.01, -0.05, 0.03),
        f1=Estimate(0.07, 0.02, 0.12),
        saved_s=Estimate(2.1, 0.9, 3.2),
        text="b.yaml is better: saves 2.1 s more an object (0.9 to 3.2), recall +0.12 (+0.05 to +0.19)",
    )
    flat = Estimate(0.01, -0.04, 0.05)
    same = Difference(flat, flat, flat, Estimate(0.1, -0.5, 0.8), "no difference shown")
    trial = surgical_trial()
    names = [c.plan.feature_hash for c in trial.classes]
    differences = dict.fromkeys(names, same) | {"": same, names[0]: better, names[-1]: TooFew(12, 30, "objects")}
    return Versus(("a.yaml", "b.yaml"), (trial, replace(trial, id=f"{TRIAL_ID}-b")), differences)
