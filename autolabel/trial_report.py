"""The pages of a trial and of two variants: which classes are worth it, and what stands behind that."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup

from autolabel.charts import rates_chart, reliability_chart
from autolabel.core.overlay import hex_color
from autolabel.evaluation.values import Difference, Estimate, Floats, Rates, Reliability, TooFew, Worth
from autolabel.report import Steps, editor_url, matrix_of, write_page
from autolabel.trial import ClassTrial, Trial, Versus

MOST_NAMES = 6
MOST_OPEN = 4


@dataclass(frozen=True)
class Line:
    """A class as the page tells it: precision, recall and F1 at the suggested threshold, or the recipe's.

    They are None where too few objects stand behind them, or nothing is left above the threshold.
    """

    it: ClassTrial
    color: str
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    curves: Markup | None
    reliability: Markup | None

    @property
    def words(self) -> list[str]:
        """The verdict, and the rates where there are some."""
        rates = (("precision", self.precision), ("recall", self.recall))
        told = [f"{name} {it.value:.2f} ({it.low:.2f} to {it.high:.2f})" for name, it in rates if it]
        return [self.it.verdict.text, *told]


def write_trial(folder: Path, trial: Trial, domain: str) -> Path:
    """Write the trial's page; as `report.write_page`. `domain` is the API's address, for links into the editor."""
    ranked = _ranked(trial.classes)
    return write_page(
        folder,
        trial.id,
        "trial.html.jinja",
        kind="Trial",
        title=trial.project.title,
        facts=_facts(trial),
        trial=trial,
        headline=headline(trial),
        lines=told_lines(trial),
        untold=[_line(it) for it in ranked if isinstance(it.rates, TooFew)],
        span_s=_span([it.verdict.saved_s for it in ranked]),
        matrix=matrix_of({cls.feature_hash: cls.name for cls in trial.recipe.plan.classes}, trial.confusion),
        most_open=MOST_OPEN,
        steps=_next_steps(trial),
        link=lambda row: editor_url(domain, trial.project.project_hash, row.data_hash),
    )


def write_versus(folder: Path, versus: Versus) -> Path:
    """Write the page of two variants on the same rows; as `report.write_page`."""
    a, b = versus.trials
    by_hash = [{it.plan.feature_hash: it for it in trial.classes} for trial in versus.trials]
    shared = [(by_hash[0][key], by_hash[1][key], found) for key, found in versus.differences.items() if key]
    told = [(first, second, found) for first, second, found in shared if isinstance(found, Difference)]
    told.sort(key=lambda entry: -entry[2].saved_s.value)
    return write_page(
        folder,
        f"{a.id}-variants",
        "versus.html.jinja",
        kind="Trial of two variants",
        title=a.project.title,
        facts=[*_facts(a)[:-2], ("A", versus.names[0]), ("B", versus.names[1])],
        names=versus.names,
        a=a,
        b=b,
        together=versus.differences.get(""),
        better=[
            (versus.names[1], [first.plan.name for first, _, found in told if found.saved_s.low > 0]),
            (versus.names[0], [first.plan.name for first, _, found in told if found.saved_s.high < 0]),
        ],
        told=[(first, second, found, hex_color(first.color)) for first, second, found in told],
        untold=[(first, found) for first, _, found in shared if isinstance(found, TooFew)],
        span_s=_span([found.saved_s for _, _, found in told]),
    )


def headline(trial: Trial) -> list[str]:
    """What a labelling lead asks, in a sentence each: whether it is worth it, for what not, and what is not known."""
    by_worth = {worth: [it for it in _ranked(trial.classes) if it.verdict.worth is worth] for worth in Worth}
    good, bad, unknown = (by_worth[worth] for worth in (Worth.YES, Worth.NO, Worth.UNKNOWN))
    total = len(trial.classes)
    classes = f"{total} class{'es' if total != 1 else ''}"
    if len(bad) == total:
        return [f"Not worth it for any of {classes}: {_names(bad)}."]
    if len(unknown) == total and trial.together.worth is Worth.YES:
        return [
            f"Worth it for all {classes} together; for which of them cannot be told yet.",
            f"Needed: {_names(unknown)}.",
        ]
    if len(unknown) == total:
        return [f"It cannot be told yet whether any of {classes} is worth it: {_names(unknown)}."]
    sentences = [f"Not worth it, as far as can be told, for any of {classes}."]
    if good:
        subject = f"all {classes}" if len(good) == total > 1 else f"{len(good)} of {classes}"
        sentences = [
            f"Worth it for {subject}: {_names(good)}.",
            f"Of every hour of drawing them it would save about {_minutes_an_hour(good)}, "
            f"judged on {sum(it.objects for it in good)} objects in {trial.judged_rows} rows.",
        ]
    rest = (("Not worth it", bad), ("Cannot be told yet", unknown))
    return [*sentences, *(f"{what}: {_names(named)}." for what, named in rest if named)]


def _minutes_an_hour(classes: Sequence[ClassTrial]) -> str:
    """Ends of the classes' intervals are summed up, which is on the wide side."""
    drawing_s = sum(it.verdict.drawing_s * it.objects for it in classes)
    saved = [(it.verdict.saved_s, it.objects) for it in classes if isinstance(it.verdict.saved_s, Estimate)]
    value, low, high = (
        60 * sum(getattr(estimate, end) * objects for estimate, objects in saved) / drawing_s
        for end in ("value", "low", "high")
    )
    return f"{value:.0f} minutes ({low:.0f} to {high:.0f})"


def _names(classes: Sequence[ClassTrial]) -> str:
    shown = [_name(it) for it in classes[:MOST_NAMES]]
    return ", ".join(shown) + (f" and {len(classes) - MOST_NAMES} more" if len(classes) > MOST_NAMES else "")


def _name(it: ClassTrial) -> str:
    lacking = it.verdict.saved_s
    if not isinstance(lacking, TooFew) or it.verdict.worth is not Worth.UNKNOWN:
        return it.plan.name
    return f"{it.plan.name} ({lacking.needed - lacking.have} more {lacking.what})"


def _ranked(classes: Sequence[ClassTrial]) -> list[ClassTrial]:
    """By what they save on the rows that were judged; those of which nothing is known last, by their objects."""

    def rank(it: ClassTrial) -> tuple[bool, float]:
        saved_s = it.verdict.saved_s
        if isinstance(saved_s, TooFew):
            return True, -it.objects
        return False, -saved_s.value * it.objects

    return sorted(classes, key=rank)


def told_lines(trial: Trial) -> list[Line]:
    """The classes that figures stand behind, those first that save most."""
    return [_line(it) for it in _ranked(trial.classes) if not isinstance(it.rates, TooFew)]


def _line(it: ClassTrial) -> Line:
    plan, threshold = it.plan, it.verdict.threshold
    at = plan.threshold if threshold is None else threshold
    curves = (
        None if isinstance(it.rates, TooFew) else rates_chart(plan.feature_hash, it.rates, plan.threshold, threshold)
    )
    drawn = reliability_chart(plan.feature_hash, it.reliability) if isinstance(it.reliability, Reliability) else None
    precision, recall, f1 = (None, None, None) if isinstance(it.rates, TooFew) else _rates_at(it.rates, at)
    return Line(it, hex_color(it.color), precision, recall, f1, curves, drawn)


def _rates_at(rates: Rates, threshold: float) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    place = int(np.abs(rates.thresholds - threshold).argmin())
    return (
        _estimate(rates.precision[:, place]),
        _estimate(rates.recall[:, place]),
        _estimate(rates.f1[:, place]),
    )


def _estimate(value_low_high: Floats) -> Estimate | None:
    return None if np.isnan(value_low_high[0]) else Estimate(*value_low_high.tolist())


def _span(saved_s: Sequence[Estimate | TooFew]) -> tuple[float, float]:
    """The axis on which all intervals have room: from where to where, with 0 on it."""
    ends = [end for one in saved_s if isinstance(one, Estimate) for end in (one.low, one.high)]
    return min([0.0, *ends]), max([0.1, *ends])


def _facts(trial: Trial) -> list[tuple[str, str]]:
    return [
        ("trial", trial.id),
        ("stage", trial.stage),
        ("project", trial.project.project_hash),
        ("autolabel", version("autolabel")),
        ("recipe", trial.recipe.id[:8]),
        ("rows judged", f"{trial.judged_rows}"),
    ]


def _next_steps(trial: Trial) -> Steps:
    project = trial.project.project_hash
    command = f"autolabel trial --project {project} --stage {shlex.quote(trial.stage)} --rows"
    told = any(it.verdict.worth is not Worth.UNKNOWN for it in trial.classes)
    steps = [
        (
            "To put the thresholds into the prompt map and switch off what is not worth it (asks first):",
            f"{command} {trial.judged_rows} --write-map",
        ),
        ("Then, to see what a push would do; nothing is written:", f"autolabel push --project {project} --dry-run"),
    ] * told
    if any(it.verdict.worth is Worth.UNKNOWN for it in trial.classes):
        more = "To tell more, judge more rows, as soon as people have finished so many:"
        steps.append((more, f"{command} {2 * max(trial.judged_rows, 25)}"))
    return steps
