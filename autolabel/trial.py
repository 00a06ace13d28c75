"""What a recipe would have found on rows that people have finished, held against what they drew. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autolabel.core.identity import unit_interval
from autolabel.core.prompts import ClassPlan, Shape
from autolabel.core.rows import LABELLED_TYPES, REASON_TEXT, LabelRow, Project, Reason, Stage
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.calibration import reliability
from autolabel.evaluation.coco import average_precision
from autolabel.evaluation.comparing import Contest, compare
from autolabel.evaluation.costs import Costs, edit_seconds, judge, judge_together, suggest_threshold
from autolabel.evaluation.matching import confusion, outcomes
from autolabel.evaluation.rates import GRID, mean_ious, rates
from autolabel.evaluation.values import (
    Confusion,
    Difference,
    Estimate,
    Outcomes,
    Precision,
    Rates,
    Reliability,
    TooFew,
    Verdict,
    Worth,
)
from autolabel.judging import Judging, Miss
from autolabel.map_edits import ClassEdit
from autolabel.protocols import Drawn, Source
from autolabel.recipe import Recipe
from autolabel.tally import Tally

FINISHED = ("REVIEW", "CONSENSUS_REVIEW", "DONE")
"""Kinds of stages at which annotators are through with a row."""
FLOOR = 0.05
"""Detections that score less are not asked for: no threshold under it is judged."""
MIN_TO_CALIBRATE = 500
"""Detections of a class at any score: with so many a curve is as a rule within 0.03 of the truth (see `benching`)."""
SEED = 20
"""Of all resampling: the same rows and recipe give the same figures."""


@dataclass(frozen=True)
class Finished:
    """Rows that people have finished, chosen for a trial.

    - `stage`: its title; `rows`: those to look at; `drawn`: data hash -> what people drew there.
    - `prelabelled`: data hashes of rows that held labels of ours, or of another machine.
    - `others`: (count, why) of the stage's rows that are not looked at.
    """

    project: Project
    stage: str
    rows: tuple[LabelRow, ...]
    drawn: Mapping[str, Drawn]
    prelabelled: frozenset[str]
    others: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ClassTrial:
    """One class; figures that too few objects stand behind are not there, and say how many are needed.

    - `objects`: how many people drew; `rows`: in how many label rows; `found`: detections at any score.
    - `iou`, `boundary_iou`: means over what was found rightly, of masks where the shape has one; None where nothing
      was, the second for boxes too.
    """

    plan: ClassPlan
    color: str
    objects: int
    rows: int
    found: int
    rates: Rates | TooFew
    precision: Precision | TooFew
    iou: Estimate | None
    boundary_iou: Estimate | None
    verdict: Verdict
    reliability: Reliability | TooFew


@dataclass(frozen=True)
class Trial:
    """All that a trial says.

    - `rows`: (count, what became of them); they add up to all rows at the stage.
    - `together`: the verdict on all classes at once.
    - `prelabelled`: how many of the judged rows had held labels of ours: people tend to leave what stands there.
    - `outcomes`: what the figures are made of, by class feature hash.
    - `unlabelled_frames`: frames of videos on which people drew nothing, which are not judged.
    - `other_objects`: objects of people of which nothing was judged: their shape is none of ours, or they lie off the
      frame.
    """

    id: str
    project: Project
    recipe: Recipe
    stage: str
    rows: Sequence[tuple[int, str]]
    judged_rows: int
    judged_frames: int
    classes: Sequence[ClassTrial]
    together: Verdict
    confusion: Confusion
    prelabelled: int
    costs: Costs
    outcomes: Mapping[str, Outcomes]
    misses: Sequence[Miss]
    messages: Sequence[str]
    unlabelled_frames: int
    other_objects: int


@dataclass(frozen=True)
class Versus:
    """Two prompt maps on the same rows: by class feature hash what B does better than A; "" for all together."""

    names: tuple[str, str]
    trials: tuple[Trial, Trial]
    differences: Mapping[str, Difference | TooFew]


def find_finished(source: Source, project: Project, ours: Set[str], stage_title: str | None, count: int) -> Finished:
    """Choose `count` rows at a stage (None: where tasks are complete), and read what people drew there.

    By hash, so that each trial of a project takes the same ones; rows in which we never wrote (`ours`) come first.
    Raises PermanentUsageError where there is no such stage, or nothing finished at it.
    """
    stage = _stage(project, stage_title)
    if stage.kind not in FINISHED:
        raise PermanentUsageError(
            f"rows at stage {stage.title!r} are not finished: people have still to work on them"
        )
    there = [row for row in source.rows() if row.stage_uuid == stage.uuid]
    usable = [row for row in there if row.data_type in LABELLED_TYPES]
    opened = [row for row in usable if row.label_hash is not None]
    if not opened:
        raise PermanentUsageError(
            f"no row at stage {stage.title!r} of {project.title!r} holds labels of people yet, so there is nothing to"
            " judge by; name a stage where finished rows are with --stage"
        )
    chosen = sorted(opened, key=lambda row: (row.data_hash in ours, unit_interval("trial", row.data_hash)))[:count]
    drawn = source.drawn(chosen)
    rows = tuple(row for row in chosen if row.data_hash in drawn)
    others = [
        (len(opened) - len(chosen), "finished too, beyond --rows"),
        (len(chosen) - len(rows), "with labels that cannot be read"),
        (len(usable) - len(opened), "at that stage, though nobody ever opened them"),
        (len(there) - len(usable), f"left out: {REASON_TEXT[Reason.UNSUPPORTED_TYPE]}"),
    ]
    seen = frozenset(row.data_hash for row in rows if row.data_hash in ours or drawn[row.data_hash].ours_like)
    return Finished(project, stage.title, rows, drawn, seen, tuple((n, why) for n, why in others if n))


def _stage(project: Project, title: str | None) -> Stage:
    stages = project.workflow.stages
    found = [stage for stage in stages if (stage.title == title if title else stage.kind == "DONE")]
    if len(found) != 1:
        named = ", ".join(repr(stage.title) for stage in stages)
        asked = f"stage called {title!r}" if title else "stage where tasks are complete"
        raise PermanentUsageError(
            f"{project.title!r} has {'more than one' if found else 'no'} {asked}, so --stage has to name another; "
            f"there are {named}"
        )
    return found[0]


def probing(recipe: Recipe) -> Recipe:
    """The recipe with thresholds low enough to judge all higher ones by what comes back.

    Suppression and caps take the best first, so within a class what scores less changes nothing of what scores more.
    A push does differ a little: what lies under its class's threshold takes no place from another class there, and
    tracks of videos are made of fewer detections.
    """
    classes = tuple(replace(cls, threshold=min(FLOOR, cls.threshold)) for cls in recipe.plan.classes)
    return replace(recipe, plan=replace(recipe.plan, classes=classes))


def conclude(trial_id: str, finished: Finished, judging: Judging, tally: Tally, rows: Sequence[LabelRow]) -> Trial:
    """What a trial says of `rows`, which `judging` has judged.

    Raises PermanentUsageError where there are none.
    """
    if not rows:
        raise PermanentUsageError(
            f"none of {len(finished.rows)} finished rows could be judged, so nothing is said: "
            + "; ".join([f"{count} {what}" for count, what in _row_lines(finished, judging, tally, 0)])
        )
    recipe, costs, shapes = judging.recipe, judging.costs, judging.recipe.shapes
    frames = judging.frames(rows)
    by_class = outcomes(frames, shapes, len(rows))
    verdicts = {key: judge(found, shapes[key], costs, SEED) for key, found in by_class.items()}
    most = max(cls.max_instances for cls in recipe.plan.classes)
    precision = average_precision(frames, shapes, most)
    colors = {item.feature_hash: item.color for item in finished.project.classes}
    at = {cls.feature_hash: _threshold(cls, verdicts[cls.feature_hash]) for cls in recipe.plan.classes}
    classes = [
        _class_trial(cls, colors[cls.feature_hash], by_class[cls.feature_hash], verdicts[cls.feature_hash], precision)
        for cls in recipe.plan.classes
    ]
    looked_at = {row.data_hash for row in rows}
    return Trial(
        id=trial_id,
        project=finished.project,
        recipe=recipe,
        stage=finished.stage,
        rows=_row_lines(finished, judging, tally, len(rows)),
        judged_rows=len(rows),
        judged_frames=len(frames),
        classes=classes,
        together=judge_together({key: (by_class[key], shape) for key, shape in shapes.items()}, costs, SEED),
        confusion=confusion(frames, shapes, at),
        prelabelled=len(finished.prelabelled & looked_at),
        costs=costs,
        outcomes=by_class,
        misses=judging.worst(),
        messages=tally.messages,
        unlabelled_frames=judging.unlabelled_frames,
        other_objects=sum(finished.drawn[key].other_objects for key in looked_at),
    )


def _class_trial(
    cls: ClassPlan, color: str, found: Outcomes, verdict: Verdict, precision: Mapping[str, Precision]
) -> ClassTrial:
    few = verdict.saved_s if isinstance(verdict.saved_s, TooFew) else None
    iou, boundary_iou = (None, None) if few else mean_ious(found, _threshold(cls, verdict), SEED)
    return ClassTrial(
        plan=cls,
        color=color,
        objects=int(found.objects.sum()),
        rows=int((found.objects > 0).sum()),
        found=len(found.scores),
        rates=few or rates(found, GRID, SEED),
        precision=few or precision[cls.feature_hash],
        iou=iou,
        boundary_iou=boundary_iou,
        verdict=verdict,
        reliability=reliability(found, SEED),
    )


def _threshold(cls: ClassPlan, verdict: Verdict) -> float:
    """The suggested one where it is worth it, else that of now."""
    suggested = verdict.threshold if verdict.worth == Worth.YES else None
    return cls.threshold if suggested is None else suggested


def _row_lines(finished: Finished, judging: Judging, tally: Tally, judged: int) -> list[tuple[int, str]]:
    looked_at = tally.labelled + tally.empty
    lines = [
        (judged, "judged"),
        (looked_at - judged, "looked at and not judged: on no frame that people labelled, or not by both variants"),
        *((count, f"not to be used: {REASON_TEXT[Reason(why)]}") for why, count in tally.set_aside.items()),
        *finished.others,
    ]
    return [(count, text) for count, text in lines if count]


def versus(names: tuple[str, str], trials: tuple[Trial, Trial]) -> Versus:
    """What the second is better at than the first, on the same rows.

    A class that only one of them looks for is people's under the other: nothing of it is found.
    """
    a, b = trials

    def contest(key: str, shape: Shape) -> Contest:
        return Contest(
            a.outcomes.get(key) or _nothing_found(b.outcomes[key].objects),
            b.outcomes.get(key) or _nothing_found(a.outcomes[key].objects),
            lambda part: suggest_threshold(part, shape, a.costs),
            lambda part, threshold: edit_seconds(part, threshold, shape, a.costs),
        )

    shapes = {**b.recipe.shapes, **a.recipe.shapes}
    return Versus(names, trials, compare({key: contest(key, shape) for key, shape in shapes.items()}, names, SEED))


def _nothing_found(objects: NDArray[np.intp]) -> Outcomes:
    none = np.zeros(0)
    return Outcomes(none, none, none, np.zeros(0, np.intp), objects)


def map_edits(trial: Trial) -> list[ClassEdit]:
    """What the trial would change in the prompt map: thresholds where it is worth it, and what is not, off.

    Calibration only where nothing is switched off: without those prompts the others score a little differently.
    Raises PermanentUsageError where classes of one name, which share an entry, would need different ones.
    """
    any_off = any(item.verdict.worth == Worth.NO for item in trial.classes)
    edits: dict[str, ClassEdit] = {}
    for item in trial.classes:
        calibration = None if any_off else _calibration(item)
        if item.verdict.worth == Worth.UNKNOWN and calibration is None:
            continue
        edit = ClassEdit(
            item.plan.name,
            threshold=item.verdict.threshold if item.verdict.worth == Worth.YES else None,
            switched_off=item.verdict.worth == Worth.NO,
            calibration=calibration,
            why=f"{item.verdict.text} ({trial.id})",
        )
        if edits.setdefault(edit.name, edit) != edit:
            raise PermanentUsageError(
                f"the ontology has several classes called {edit.name!r}, which share an entry of the prompt map and"
                " need different ones; nothing was written. Give them names of their own"
            )
    return list(edits.values())


def _calibration(item: ClassTrial) -> tuple[tuple[float, float], ...] | None:
    """None where there is too little to go by, or it made nothing better on rows that it was not fitted on."""
    told = item.reliability
    if isinstance(told, TooFew) or item.found < MIN_TO_CALIBRATE or told.calibrated_ece > told.ece:
        return None
    return told.knots


def described(trial: Trial) -> dict[str, Any]:
    """The trial as JSON: what is not known is null, or says how many are needed."""
    return {
        "trial": trial.id,
        "project": {"hash": trial.project.project_hash, "title": trial.project.title},
        "stage": trial.stage,
        "recipe": trial.recipe.id,
        "scoring_id": trial.recipe.scoring_id,
        "rows": {text: count for count, text in trial.rows},
        "judged_rows": trial.judged_rows,
        "judged_frames": trial.judged_frames,
        "prelabelled": trial.prelabelled,
        "unlabelled_frames": trial.unlabelled_frames,
        "other_objects": trial.other_objects,
        "together": plain(trial.together),
        "classes": plain(trial.classes),
        "confusion": [[drawn, found, count] for (drawn, found), count in trial.confusion.items()],
        "costs": trial.costs.model_dump(),
        "messages": list(trial.messages),
    }


def plain(value: Any) -> Any:
    """A value of `evaluation` as JSON has it: no arrays, no NaN."""
    if isinstance(value, TooFew):
        return {"too_few": str(value)}
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.generic):
        return None if value != value else float(value)  # NaN
    return value
