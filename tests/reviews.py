"""What a review might say, made up: for tests of its page, and to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autolabel.core.prompts import PromptPlan
from autolabel.core.rows import OntologyClass
from autolabel.evaluation.values import Estimate, TimeRatio, TooFew
from autolabel.preview import COLORS
from autolabel.review import ClassReview, Fates, Review
from platform_fakes import RECIPE, make_project
from trials import make_plan

ANN, BOB = "ann@hospital.example", "bob@hospital.example"


def make_class_review(name: str, ann: Fates, bob: Fates | None = None, ious: Sequence[float] = ()) -> ClassReview:
    """Its feature hash is its name."""
    people = {ANN: ann} | ({BOB: bob} if bob else {})
    return ClassReview(name, name, "bounding_box", COLORS[len(name) % len(COLORS)], people, tuple(ious))


def make_review(classes: Sequence[ClassReview], title: str = "Surgical tools") -> Review:
    ontology = tuple(OntologyClass(it.feature_hash, it.name, it.shape, it.color) for it in classes)
    ratio = TimeRatio(Estimate(0.62, 0.51, 0.76), (112, 38), 4)
    return Review(
        id="20261122-080000-cd34",
        project=replace(make_project(), title=title, classes=ontology),
        recipe=replace(RECIPE, plan=PromptPlan(tuple(make_plan(it.name) for it in classes))),
        destination="main",
        runs=["20261121-185720-afd9"],
        rows=[(112, "finished by people, and judged here"), (31, "not finished by people yet")],
        reviewed_rows=112,
        classes=classes,
        confusion={(classes[0].name, classes[-1].name): 6, (None, classes[0].name): 9, (classes[0].name, None): 4},
        unasked=3,
        time=ratio,
        time_text="0.62 times the seconds of rows from nothing (0.51 to 0.76): 38 % less time",
        messages=["tray-09.png: cannot be read"],
    )


def surgical_review() -> Review:
    return make_review(
        [
            make_class_review(
                "gold needle holder", Fates(80, 21, 4, 0, 6), Fates(44, 30, 3, 2, 1), [0.92, 0.88, 0.72] * 17
            ),
            make_class_review("black forceps", Fates(60, 5, 1), Fates(31, 2), [0.93, 0.95] * 3 + [0.4]),
            make_class_review("white gauze", Fates(3, 1, 22), Fates(0, 0, 15, 1), [0.55]),
            make_class_review("steel scissors", Fates(added=12), Fates(4, 0, 2, 6, 8)),
            make_class_review("blue syringe", Fates()),
        ]
    )


def early_review() -> Review:
    """Nothing is finished yet."""
    review = make_review([make_class_review("gold needle holder", Fates())])
    few = TooFew(31, 86, "rows")
    return replace(
        review,
        reviewed_rows=0,
        unasked=0,
        rows=[(143, "not finished by people yet")],
        time=few,
        time_text=f"not yet: {few}",
    )
