"""What people made of a run's labels, and the time that it saved. Writes nothing to the platform."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from autolabel.core.rows import MAIN_BRANCH, REASON_TEXT, Destination, Project, Reason
from autolabel.errors import (
    PermanentAccessError,
    PermanentNotFoundError,
    PermanentRejectedError,
    PermanentUsageError,
)
from autolabel.evaluation.timing import describe as in_words
from autolabel.evaluation.timing import time_ratio
from autolabel.evaluation.values import Confusion, Decision, TimeRatio, TooFew
from autolabel.ledger import Ledger
from autolabel.operate import WrittenRun, written_instances
from autolabel.protocols import Claim, Inspector, Source
from autolabel.recipe import Recipe
from autolabel.states import Job, State

REVIEWED = "finished by people, and judged here"
NOT_YET = "not finished by people yet"
UNDONE = "taken back by undo"
UNPUBLISHED = "on our own branch only, not published"
UNREADABLE = "finished by people, and cannot be read"
SKIPPED = REASON_TEXT[Reason.SKIPPED_BY_HUMAN]
GONE = REASON_TEXT[Reason.GONE]

FINISHED_KINDS = frozenset({"REVIEW", "CONSENSUS_REVIEW", "DONE"})
"""Stages behind the annotators: what stands there is what they made of it."""
TIMED_KINDS = ("ANNOTATION", "REVIEW")

NO_HOLDOUT = (
    "nothing to compare with, since no row was held out: with AUTOLABEL_HOLDOUT=0.1 the next push leaves one row in "
    "ten to people, chosen by chance, and what they take for it is compared here once they have finished"
)
WHO = (
    "the platform tells who edited, replaced or added an object, not who kept or deleted one: whoever was longest at "
    "the row as an annotator is taken for it"
)
UNSEEN = (
    "what scored below a class's threshold was never shown to anybody, so nothing here speaks for or against a lower "
    "threshold; `autolabel trial` looks there"
)


@dataclass(frozen=True)
class Fates:
    """What became of objects that were proposed, and how many people added themselves.

    - `kept`: where we put them; answering their questions is no correction.
    - `edited`: moved or redrawn, on any frame on which they were proposed.
    - `other_class`: of another class now, or replaced on the same spot by an object of another class.
    - `added`: by people, beside those that replace; of the class that people gave them.
    """

    kept: int = 0
    edited: int = 0
    deleted: int = 0
    other_class: int = 0
    added: int = 0

    @property
    def proposed(self) -> int:
        return self.kept + self.edited + self.deleted + self.other_class

    @property
    def total(self) -> int:
        return self.proposed + self.added

    def __add__(self, other: Fates) -> Fates:
        mine, theirs = asdict(self), asdict(other)
        return Fates(**{fate: mine[fate] + theirs[fate] for fate in mine})


@dataclass(frozen=True)
class ClassReview:
    """One class that the recipe looks for.

    - `by_person`: the same counts by who decided, as far as can be told (see WHO), else "". They add up to `fates`.
    - `edit_ious`: of each edited object, ours with theirs, mean over the frames on which it was proposed.
    """

    feature_hash: str
    name: str
    shape: str
    color: str
    by_person: Mapping[str, Fates]
    edit_ious: tuple[float, ...]

    @property
    def fates(self) -> Fates:
        return sum(self.by_person.values(), Fates())

    @property
    def edit_iou(self) -> float | None:
        """Mean over the edited objects."""
        return _mean(self.edit_ious)


@dataclass(frozen=True)
class Review:
    """All that a review says.

    - `runs`: whose labels these are, oldest first.
    - `rows`: (count, what became of them); they add up to all rows that the runs processed and that stand.
    - `reviewed_rows`: those that people have finished; everything about objects is of these.
    - `confusion`: of proposals and additions in them, (class now, class proposed); None for deleted and for added.
    - `unasked`: objects that people drew of classes that the recipe does not look for; in no other count.
    - `time`: seconds a row against rows that were held out; None where none are. `time_text`: that in words.
    - `messages`: what could not be judged.
    """

    id: str
    project: Project
    recipe: Recipe
    destination: str
    runs: Sequence[str]
    rows: Sequence[tuple[int, str]]
    reviewed_rows: int
    classes: Sequence[ClassReview]
    confusion: Confusion
    unasked: int
    time: TimeRatio | TooFew | None
    time_text: str
    messages: Sequence[str]

    @property
    def by_person(self) -> Mapping[str, Fates]:
        """Over all classes, by who decided."""
        people = sorted({person for cls in self.classes for person in cls.by_person})
        return {
            person: sum((cls.by_person.get(person, Fates()) for cls in self.classes), Fates()) for person in people
        }

    @property
    def edit_iou(self) -> float | None:
        """Mean over the edited objects of all classes."""
        return _mean([iou for cls in self.classes for iou in cls.edit_ious])

    @property
    def fates(self) -> Fates:
        return sum((cls.fates for cls in self.classes), Fates())


@dataclass(frozen=True)
class _Work:
    """By data hash: who worked longest on it as an annotator, and everybody's seconds on it."""

    annotators: Mapping[str, str]
    seconds: Mapping[str, int]


def review(
    run: WrittenRun, source: Source, inspector: Inspector, ledger: Ledger, *, review_id: str, all_runs: bool
) -> Review:
    """What became of a run's labels, or of those of `all_runs` of its project, recipe and destination.

    Raises PermanentUsageError where nothing of it ever came to `main`, and what the platform raises.
    """
    project, known = source.project(), ledger.runs(run.job.project_hash)
    runs = [one["id"] for one in known if all_runs and _is_alike(one, run.job)] or [run.id]
    claims, away = _claims(ledger, run, runs)
    rows, skipped = {row.data_hash: row for row in source.rows()}, source.skipped()
    kinds = {stage.uuid: stage.kind for stage in project.workflow.stages}
    at = {key: SKIPPED if key in skipped else kinds.get(row.stage_uuid, "") for key, row in rows.items()}
    away = {key: why for key in claims if (why := _why_away(at.get(key)))} | away
    found = inspector.look([claim for key, claim in claims.items() if key not in away])
    away |= {key: GONE for key in claims if key not in away and key not in found}
    away |= {key: UNREADABLE for key, reviewed in found.items() if reviewed.decisions is None}
    work, messages = _work(inspector, kinds, known[0]["started_at"])
    messages += [f"{found[key].row.title!r} cannot be read" for key, why in away.items() if why == UNREADABLE]
    decisions = [
        replace(decision, person=decision.person or work.annotators.get(key, ""))
        for key, reviewed in found.items()
        for decision in reviewed.decisions or ()
    ]
    asked = [one for one in decisions if (one.proposed or one.drawn) in run.recipe.shapes]
    done = {key for key, kind in at.items() if kind == "DONE"}
    given = {key for key in claims if away.get(key) not in (UNDONE, UNPUBLISHED)}
    held_out = _held_out(ledger, run.job.project_hash) - claims.keys()
    time = _time(work, given & done, held_out & done) if held_out else None
    return Review(
        id=review_id,
        project=project,
        recipe=run.recipe,
        destination=run.job.destination,
        runs=runs,
        rows=_row_lines(claims, away),
        reviewed_rows=len(claims.keys() - away.keys()),
        classes=_classes(run.recipe, project, asked),
        confusion=Counter((one.drawn, one.proposed) for one in asked),
        unasked=len(decisions) - len(asked),
        time=time,
        time_text=in_words(time) if time else NO_HOLDOUT,
        messages=messages,
    )


def _is_alike(known: Mapping[str, Any], job: Job) -> bool:
    return (known["recipe_id"], known["destination"]) == (job.recipe_id, job.destination)


def _claims(ledger: Ledger, run: WrittenRun, runs: Sequence[str]) -> tuple[dict[str, Claim], dict[str, str]]:
    """What the runs brought to `main`, with rows in which they found nothing; and why other rows are not there."""
    job = run.job
    receipts = ledger.receipts_of(job.project_hash, job.recipe_id)
    marks = ledger.undo_marks(job.project_hash, job.recipe_id)
    ours = {key for key, by in ledger.ended(job.project_hash, State.DONE).items() if not by.isdisjoint(runs)}
    ours |= {one["data_hash"] for one in receipts if one["run_id"] in runs}
    claims = {key: Claim(MAIN_BRANCH, key, frozenset(), "", lambda row: ()) for key in ours}
    away: dict[str, str] = {}
    receipts = [one for one in receipts if one["data_hash"] in ours]
    for receipt in sorted(receipts, key=lambda receipt: receipt["branch"] == MAIN_BRANCH):
        key, branch = receipt["data_hash"], receipt["branch"]
        undone_at = marks.get((key, branch), {}).get("undone_at")
        if undone_at is not None and undone_at >= receipt["at"]:
            away[key] = UNDONE
        elif branch != MAIN_BRANCH:
            away[key] = UNPUBLISHED
        else:
            away.pop(key, None)
            instances = partial(written_instances, ledger, run.recipe)
            claims[key] = Claim(branch, key, frozenset(receipt["objects"]), receipt["digest"], instances)
    if not claims:
        raise PermanentUsageError(f"run {run.id} finished no rows, so there is nothing to review")
    if job.destination == Destination.BRANCH and all(one["branch"] != MAIN_BRANCH for one in receipts):
        raise PermanentUsageError(
            f"run {run.id} stands on its own branch only, where nobody reviews it: "
            f"bring it to main first (autolabel publish --run {run.id})"
        )
    return claims, away


def _held_out(ledger: Ledger, project_hash: str) -> Set[str]:
    """Rows that were held out and never taken up; the log tells, since pushes forget why they once left a row."""
    left = ledger.ended(project_hash, State.LEFT_ALONE, Reason.HOLDOUT)
    return left.keys() - ledger.ended(project_hash, State.DONE).keys()


def _why_away(at: str | None) -> str | None:
    """Why a row is not judged that is at a stage of that kind, SKIPPED, or None where it is no longer there."""
    if at is None or at == SKIPPED:
        return at or GONE
    return None if at in FINISHED_KINDS else NOT_YET


def _work(inspector: Inspector, kinds: Mapping[str, str], since_s: float) -> tuple[_Work, list[str]]:
    """Annotators' and reviewers' seconds since then; and why there are none, where the key may not read them."""
    seconds: Counter[str] = Counter()
    annotating: defaultdict[str, Counter[str]] = defaultdict(Counter)
    timed = [uuid for uuid, kind in kinds.items() if kind in TIMED_KINDS]
    try:
        spent = inspector.time_spent(timed, datetime.fromtimestamp(since_s, UTC))
    except (PermanentAccessError, PermanentNotFoundError, PermanentRejectedError) as error:
        return _Work({}, {}), [f"there are no times: {error}"]
    for entry in spent:
        seconds[entry.data_hash] += entry.seconds
        if kinds.get(entry.stage_uuid) == "ANNOTATION":
            annotating[entry.data_hash][entry.user_email] += entry.seconds
    busiest = {key: max(sorted(people), key=people.__getitem__) for key, people in annotating.items()}
    return _Work(busiest, seconds), []


def _time(work: _Work, with_labels: Set[str], without: Set[str]) -> TimeRatio | TooFew:
    """Over rows on which somebody worked as an annotator."""
    keys = [key for key in sorted(with_labels | without) if key in work.annotators and work.seconds[key]]
    seconds = np.array([work.seconds[key] for key in keys], np.float64)
    had_labels = np.array([key in with_labels for key in keys], np.bool_)
    return time_ratio(seconds, had_labels, [work.annotators[key] for key in keys])


def _row_lines(claims: Iterable[str], away: Mapping[str, str]) -> list[tuple[int, str]]:
    counts = Counter(away.get(key, REVIEWED) for key in claims)
    texts = (REVIEWED, NOT_YET, SKIPPED, GONE, UNREADABLE, UNDONE, UNPUBLISHED)
    return [(counts[text], text) for text in texts if counts[text]]


def _classes(recipe: Recipe, project: Project, decisions: Sequence[Decision]) -> list[ClassReview]:
    counts: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    ious: defaultdict[str, list[float]] = defaultdict(list)
    for one in decisions:
        key = one.proposed or one.drawn or ""
        counts[key][one.person][one.fate] += 1
        ious[key] += [] if one.iou is None else [one.iou]
    colors = {item.feature_hash: item.color for item in project.classes}
    return [
        ClassReview(
            cls.feature_hash,
            cls.name,
            cls.shape,
            colors.get(cls.feature_hash, ""),
            {person: Fates(**counted) for person, counted in sorted(counts[cls.feature_hash].items())},
            tuple(ious[cls.feature_hash]),
        )
        for cls in recipe.plan.classes
    ]


def describe(review: Review) -> dict[str, Any]:
    """The review as JSON."""
    names = {item.feature_hash: item.name for item in review.project.classes}
    return {
        "review": review.id,
        "project": {"hash": review.project.project_hash, "title": review.project.title},
        "recipe": review.recipe.id,
        "destination": review.destination,
        "runs": list(review.runs),
        "rows": {text: count for count, text in review.rows},
        "reviewed_rows": review.reviewed_rows,
        "all": {**_counted(review.fates), "edit_iou": review.edit_iou},
        "classes": [_class_as_json(cls) for cls in review.classes],
        "people": {person: _counted(fates) for person, fates in review.by_person.items()},
        "now_and_proposed": [
            {"now": now and names.get(now, now), "proposed": proposed and names.get(proposed, proposed), "objects": n}
            for (now, proposed), n in review.confusion.items()
        ],
        "unasked": review.unasked,
        "time": review.time and asdict(review.time),
        "time_text": review.time_text,
        "messages": list(review.messages),
    }


def _class_as_json(cls: ClassReview) -> dict[str, Any]:
    return {
        "name": cls.name,
        "feature_hash": cls.feature_hash,
        "shape": cls.shape,
        **_counted(cls.fates),
        "edit_iou": cls.edit_iou,
        "people": {person: _counted(fates) for person, fates in cls.by_person.items()},
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counted(fates: Fates) -> dict[str, int]:
    return {"proposed": fates.proposed, **asdict(fates)}
