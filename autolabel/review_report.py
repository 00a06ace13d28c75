"""The page of a review: what people made of what was proposed, by class and person, and the time that it saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from autolabel.core.overlay import hex_color
from autolabel.evaluation.timing import FEWEST_ANNOTATORS, is_wide
from autolabel.evaluation.values import Estimate, TimeRatio
from autolabel.report import Matrix, Steps, matrix_of, write_page
from autolabel.review import UNSEEN, WHO, ClassReview, Review

IOU_BINS = 10


@dataclass(frozen=True)
class Line:
    """A class as the page tells it; `ious`: of its edited objects, how many lie in each tenth of [0, 1]."""

    it: ClassReview
    color: str
    ious: Sequence[int]


def write_review(folder: Path, review: Review) -> Path:
    """Write the review's page; as `report.write_page`."""
    shown = sorted((it for it in review.classes if it.fates.total), key=lambda it: -it.fates.proposed)
    return write_page(
        folder,
        review.id,
        "review.html.jinja",
        kind="Review",
        title=review.project.title,
        facts=_facts(review),
        review=review,
        headline=headline(review),
        lines=[Line(it, hex_color(it.color), _tenths(it.edit_ious)) for it in shown],
        silent=[it.name for it in review.classes if not it.fates.total],
        matrix=_matrix(review),
        saved=_saved(review.time) if isinstance(review.time, TimeRatio) and not is_wide(review.time) else None,
        fewest_annotators=FEWEST_ANNOTATORS,
        who=WHO,
        counted_as=counted,
        unseen=UNSEEN,
        steps=_next_steps(review),
    )


def headline(review: Review) -> list[str]:
    """What a labelling lead asks, in a sentence each: what became of the proposals, and what time they saved."""
    fates = review.fates
    rows = counted(review.reviewed_rows, "row")
    if not review.reviewed_rows:
        first = "People have not finished any of these rows yet."
    elif not fates.proposed:
        drawn = counted(fates.added, "object")
        first = f"Nothing was proposed in the {rows} that people have finished; they drew {drawn}."
    else:
        first = (
            f"Of {counted(fates.proposed, 'proposed object')} people kept {fates.told(fates.kept)} as they were, "
            f"corrected {fates.told(fates.edited)}, deleted {fates.told(fates.deleted)} and gave "
            f"{fates.told(fates.other_class)} another class; they added {fates.added} ({rows} finished)."
        )
    return [first, f"Time: {review.time_text}."]


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tenths(ious: Sequence[float]) -> list[int]:
    counts, _ = np.histogram(ious, IOU_BINS, (0.0, 1.0))
    return [int(count) for count in counts]


def _matrix(review: Review) -> Matrix:
    """Of classes that were proposed or are there now; people may have made another class of what was proposed."""
    met = dict.fromkeys(key for pair in review.confusion for key in pair if key is not None)
    return matrix_of({key: review.name_of(key) for key in met}, review.confusion)


def _saved(time: TimeRatio) -> Estimate:
    """The share of the time that is saved: over 0 where pre-labels help. Rounded as the words are."""
    value, low, high = (round(1 - end, 2) for end in (time.ratio.value, time.ratio.high, time.ratio.low))
    return Estimate(value, low, high)


def _facts(review: Review) -> list[tuple[str, str]]:
    runs = review.runs
    return [
        ("run", runs[0]) if len(runs) == 1 else ("runs", f"{len(runs)}, {runs[0]} to {runs[-1]}"),
        ("to", review.destination),
        ("recipe", review.recipe.id[:8]),
        ("project", review.project.project_hash),
        ("autolabel", version("autolabel")),
    ]


def _next_steps(review: Review) -> Steps:
    if not review.reviewed_rows:
        return [("Once people have finished rows:", f"autolabel review --run {review.runs[-1]}")]
    return [
        (
            "What other thresholds would give; nothing is written. It is fair on rows that were held out or never "
            "pre-labelled, where people drew what they saw and not what was proposed to them:",
            f"autolabel trial --project {review.project.project_hash}",
        )
    ]
