"""What people made of a run's labels, and the time that it saved. Writes nothing to the platform."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from autolabel.core.rows import MAIN_BRANCH, REASON_TEXT, Destination, Project, Reason
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.fates import decisions
from autolabel.evaluation.values import Confusion, Decision, Fate, TimeRatio, TooFew
from autolabel.ledger import Ledger
from autolabel.operate import WrittenRun, written_instances
from autolabel.protocols import Claim, Inspector, Reviewed, Source
from autolabel.recipe import Recipe
from autolabel.saved_time import Work, compare, read_work
from autolabel.states import Job, State

REVIEWED = "finished by people, and judged here"
NOT_YET = "not finished by people yet"
UNDONE = "taken back by undo"
UNPUBLISHED = "on our own branch only, not published"
PASSED = "went past the annotators: complete or at review, and nothing shows that one looked at them"
UNREADABLE = "finished by people, and cannot be judged"
SKIPPED = REASON_TEXT[Reason.SKIPPED_BY_HUMAN]
GONE = REASON_TEXT[Reason.GONE]

FEWEST_FOR_SHARES = 10
"""Proposed objects under which counts are told alone: a share of fewer moves by more than 10 % with each."""
FINISHED_KINDS = frozenset({"REVIEW", "CONSENSUS_REVIEW", "DONE"})
"""Stages behind the annotators: what stands there is what they made of it, if they came by."""

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

    @property
    def has_shares(self) -> bool:
        return self.proposed >= FEWEST_FOR_SHARES

    def told(self, count: int) -> str:
        """One of its counts as a share of what was proposed, or as it is where that is too few for shares."""
        return f"{100 * count / self.proposed:.0f} %" if self.has_shares else str(count)

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
    - `time`: seconds a row against rows that were held out; None where they cannot be compared. `time_text`: that
      in words.
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

    def name_of(self, feature_hash: str) -> str:
        """As the recipe has it, which may be older than the ontology."""
        names = {item.feature_hash: item.name for item in self.project.classes}
        names |= {cls.feature_hash: cls.name for cls in self.recipe.plan.classes}
        return names.get(feature_hash, "an archived class")

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
    work = read_work(inspector, kinds, known[0]["started_at"])
    judged = {key: _judged(one, claims[key], work.annotators.get(key, "")) for key, one in found.items()}
    away |= {key: UNREADABLE for key, said in judged.items() if isinstance(said, str)}
    decided = {key: said for key, said in judged.items() if not isinstance(said, str)}
    passed = {key for key, made in decided.items() if not _shows_an_annotator(key, made, work)}
    away |= dict.fromkeys(passed, PASSED)
    made = [one for key, some in decided.items() if key not in passed for one in some]
    asked = [one for one in made if (one.proposed or one.drawn) in run.recipe.shapes]
    done = {key for key, kind in at.items() if kind == "DONE"}
    time, time_text = compare(work, *_arms(ledger, run.job.project_hash, runs, claims, away), done)
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
        unasked=len(made) - len(asked),
        time=time,
        time_text=time_text + _more_runs(ledger, run.job, runs, time),
        messages=[*(said for said in judged.values() if isinstance(said, str)), *_on_timers(work)],
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


def _arms(
    ledger: Ledger, project_hash: str, runs: Sequence[str], claims: Iterable[str], away: Mapping[str, str]
) -> tuple[set[str], set[str]]:
    """Rows of these runs as chance assigned them: to be pre-labelled, and held out.

    To the first belong rows in which nothing was found and rows that were set aside: they too were free.
    The log tells of the second, since pushes forget why they once left a row.
    """
    done = ledger.ended(project_hash, State.DONE).keys()
    tried = _by(runs, ledger.ended(project_hash, State.SET_ASIDE)) - done
    given = {key for key in claims if away.get(key) not in (UNDONE, UNPUBLISHED)}
    return given | tried, _held_out(ledger, project_hash, runs) - tried


def _held_out(ledger: Ledger, project_hash: str, runs: Sequence[str]) -> set[str]:
    """Rows that these runs held out and none ever took up."""
    held_out = _by(runs, ledger.ended(project_hash, State.LEFT_ALONE, Reason.HOLDOUT))
    return held_out - ledger.ended(project_hash, State.DONE).keys()


def _by(runs: Sequence[str], ended: Mapping[str, Set[str]]) -> set[str]:
    return {key for key, by in ended.items() if not by.isdisjoint(runs)}


def _more_runs(ledger: Ledger, job: Job, runs: Sequence[str], time: TimeRatio | TooFew | None) -> str:
    """Where the holdout of these runs gives no figure, and other runs of the same work held rows out too."""
    alike = [one["id"] for one in ledger.runs(job.project_hash) if _is_alike(one, job) and one["id"] not in runs]
    if isinstance(time, TimeRatio) or not _held_out(ledger, job.project_hash, alike):
        return ""
    return "; other runs of the same work held rows out as well: --all-runs takes them together"


def _why_away(at: str | None) -> str | None:
    """Why a row is not judged that is at a stage of that kind, SKIPPED, or None where it is no longer there."""
    if at is None or at == SKIPPED:
        return at or GONE
    return None if at in FINISHED_KINDS else NOT_YET


def _judged(found: Reviewed, claim: Claim, annotator: str) -> list[Decision] | str:
    """What people made of a row, the annotator standing in where the platform does not tell who; or why not known."""
    if found.standing is None:
        return f"{found.row.title!r} cannot be read"
    if frozenset(track.object_hash for track in found.written) != claim.objects:
        return (
            f"{found.row.title!r} cannot be judged: what was written there cannot be told any more, since the ledger "
            "lacks its detections or another version of autolabel made objects of them"
        )
    made = decisions(found.written, found.standing, found.as_written)
    return [replace(one, person=one.person or annotator) for one in made]


def _shows_an_annotator(key: str, made: Sequence[Decision], work: Work) -> bool:
    """A row may stand behind the annotators that none of them opened; without timers nothing tells."""
    return bool(work.why_unknown) or key in work.annotators or any(one.fate != Fate.KEPT for one in made)


def _on_timers(work: Work) -> list[str]:
    if not work.why_unknown:
        return []
    return [
        f"there are no times: {work.why_unknown}; so rows that are complete or at review are counted as finished by "
        "annotators, though some may have gone past them"
    ]


def _row_lines(claims: Iterable[str], away: Mapping[str, str]) -> list[tuple[int, str]]:
    counts = Counter(away.get(key, REVIEWED) for key in claims)
    texts = (REVIEWED, NOT_YET, PASSED, SKIPPED, GONE, UNREADABLE, UNDONE, UNPUBLISHED)
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
            {"now": now and review.name_of(now), "proposed": proposed and review.name_of(proposed), "objects": n}
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
