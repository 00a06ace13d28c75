"""The pages of a trial and of two variants: which classes are worth it, and what stands behind that."""

from __future__ import annotations

import re
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
    """A class as the page tells it: precision, recall and F1 at `threshold`, the suggested one or that of now.

    They are None where too few objects stand behind them, or nothing is left above the threshold.
    """

    it: ClassTrial
    color: str
    threshold: float
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None

    @property
    def words(self) -> list[str]:
        """The verdict, and the rates where there are some."""
        rates = (("precision", self.precision), ("recall", self.recall))
        told = ", ".join(f"{name} {it.value:.2f} ({it.low:.2f} to {it.high:.2f})" for name, it in rates if it)
        where = "" if self.suggested is not None else f"at threshold {self.threshold:.2f} "
        return [self.it.verdict.text, *([f"{where}{told}"] if told else [])]

    @property
    def suggested(self) -> float | None:
        return _suggested(self.it)

    @property
    def curves(self) -> Markup:
        """Drawn when asked for; figures have to stand behind the class."""
        assert isinstance(self.it.rates, Rates)
        return rates_chart(self.it.plan.feature_hash, self.it.rates, self.it.plan.threshold, self.suggested)

    @property
    def reliability(self) -> Markup:
        """As `curves`."""
        assert isinstance(self.it.reliability, Reliability)
        return reliability_chart(self.it.plan.feature_hash, self.it.reliability)


def write_trial(folder: Path, trial: Trial, domain: str) -> Path:
    """Write the trial's page; as `report.write_page`. `domain` is the API's address, for links into the editor."""
    ranked = _ranked(trial.classes)
    return write_page(
        folder,
        trial.id,
        "trial.html.jinja",
        kind="Trial",
        title=trial.project.title,
        facts=[
            *_facts(trial),
            ("recipe", trial.recipe.id[:8]),
            ("rows judged", f"{trial.judged_rows}"),
        ],
        trial=trial,
        headline=headline(trial),
        lines=told_lines(trial),
        untold=[_line(it) for it in ranked if isinstance(it.rates, TooFew)],
        span_s=_span([it.verdict.saved_s for it in ranked]),
        matrix=matrix_of(
            {it.plan.feature_hash: it.plan.name for it in trial.classes if not isinstance(it.rates, TooFew)},
            trial.confusion,
        ),
        unsought=_unsought(trial),
        most_open=MOST_OPEN,
        steps=_next_steps(trial),
        link=lambda row: editor_url(domain, trial.project.project_hash, row.data_hash),
    )


def write_versus(folder: Path, versus: Versus) -> Path:
    """Write the page of two variants on the same rows; as `report.write_page`."""
    a, b = versus.trials
    in_a, in_b = ({it.plan.feature_hash: it for it in trial.classes} for trial in versus.trials)
    classes = {**in_b, **in_a}
    compared = [(key, found) for key, found in versus.differences.items() if key]
    told = [(key, found) for key, found in compared if isinstance(found, Difference)]
    told.sort(key=lambda entry: -entry[1].saved_s.value)
    return write_page(
        folder,
        f"{a.id}-variants",
        "versus.html.jinja",
        kind="Trial of two variants",
        title=a.project.title,
        facts=[*_facts(a), ("A", versus.names[0]), ("B", versus.names[1])],
        names=versus.names,
        a=a,
        b=b,
        classes=classes,
        prompts=[{key: it.plan.prompts for key, it in side.items()} for side in (in_a, in_b)],
        together=versus.differences.get(""),
        better=[
            (versus.names[1], [classes[key].plan.name for key, found in told if found.saved_s.low > 0]),
            (versus.names[0], [classes[key].plan.name for key, found in told if found.saved_s.high < 0]),
        ],
        alone=[
            (versus.names[0], [it.plan.name for key, it in in_a.items() if key not in in_b]),
            (versus.names[1], [it.plan.name for key, it in in_b.items() if key not in in_a]),
        ],
        told=[(key, found, hex_color(classes[key].color)) for key, found in told],
        untold=[(classes[key], found) for key, found in compared if isinstance(found, TooFew)],
        span_s=_span([found.saved_s for _, found in told]),
    )


def headline(trial: Trial) -> list[str]:
    """What a labelling lead asks, in a sentence each: whether it is worth it, for what not, and what is not known."""
    by_worth = {worth: [it for it in _ranked(trial.classes) if it.verdict.worth is worth] for worth in Worth}
    good, bad, unknown = (by_worth[worth] for worth in (Worth.YES, Worth.NO, Worth.UNKNOWN))
    total = len(trial.classes)
    classes = f"{total} class{'es' if total != 1 else ''}"
    if len(bad) == total:
        return [f"Not worth it for any of {classes}: {_names(bad)}."]
    together = trial.together
    if together.worth is Worth.NO and not good:
        rest = (("Not worth it by itself", bad), ("Cannot be told of each yet", unknown))
        return [
            f"Not worth it here: as far as these rows tell, no threshold of any of {classes} saves time.",
            *(f"{what}: {_names(named)}." for what, named in rest if named),
        ]
    if len(unknown) == total and together.worth is Worth.YES and isinstance(together.saved_s, Estimate):
        return [
            f"Together they would save {together.saved_s.value:.1f} s of {together.drawing_s:.1f} s an object, each "
            "from a threshold of its own; for which classes cannot be told yet.",
            f"Needed: {_names(unknown)}.",
        ]
    if len(unknown) == total:
        return [f"It cannot be told yet whether any of {classes} is worth it: {_names(unknown)}."]
    if not good:
        return [
            f"Cannot be told yet for {len(unknown)} of {classes}: {_names(unknown)}.",
            f"Not worth it: {_names(bad)}.",
        ]
    subject = f"all {classes}" if len(good) == total > 1 else f"{len(good)} of {classes}"
    rest = (("Not worth it", bad), ("Cannot be told yet", unknown))
    return [
        f"Worth it for {subject}: {_names(good)}.",
        f"Of every hour of drawing them it would save about {_minutes_an_hour(good)}, "
        f"judged on {sum(it.objects for it in good)} objects in {trial.judged_rows} rows.",
        *(f"{what}: {_names(named)}." for what, named in rest if named),
    ]


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
    more = lacking.needed - lacking.have
    what = re.sub(r"^(object|label row)s", r"\1", lacking.what) if more == 1 else lacking.what
    return f"{it.plan.name} ({more} more {what})"


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
    suggested = _suggested(it)
    threshold = it.plan.threshold if suggested is None else suggested
    rates = (None, None, None) if isinstance(it.rates, TooFew) else _rates_at(it.rates, threshold)
    return Line(it, hex_color(it.color), threshold, *rates)


def _suggested(it: ClassTrial) -> float | None:
    """Of a class that is not known to be worth it none is suggested, whatever it was judged at."""
    return it.verdict.threshold if it.verdict.worth is Worth.YES else None


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


def _unsought(trial: Trial) -> list[str]:
    """Names of the ontology's classes that the recipe does not look for."""
    sought = {cls.feature_hash for cls in trial.recipe.plan.classes}
    return [cls.name for cls in trial.project.classes if cls.feature_hash not in sought]


def _facts(trial: Trial) -> list[tuple[str, str]]:
    return [
        ("trial", trial.id),
        ("stage", trial.stage),
        ("project", trial.project.project_hash),
        ("autolabel", version("autolabel")),
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
    if any(it.verdict.worth is Worth.NO for it in trial.classes):
        again = (
            "Calibration is not written while classes are switched off, as the others score a little differently"
            " without their prompts. For it, once the map is written, run a second trial:"
        )
        steps.append((again, f"{command} {trial.judged_rows} --write-map"))
    if any(it.verdict.worth is Worth.UNKNOWN for it in trial.classes):
        more = "To tell more, judge more rows, as soon as people have finished so many:"
        steps.append((more, f"{command} {2 * max(trial.judged_rows, 25)}"))
    return steps
