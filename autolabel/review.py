"""What people made of a run's labels, and the time that it saved. Writes nothing to the platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolabel.core.rows import Project
from autolabel.evaluation.values import Confusion, TimeRatio, TooFew
from autolabel.recipe import Recipe


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

    def __add__(self, other: Fates) -> Fates:
        return Fates(*(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        return self.kept, self.edited, self.deleted, self.other_class, self.added


@dataclass(frozen=True)
class ClassReview:
    """One class that the recipe looks for, or that people gave to what was proposed.

    - `shape`: the platform's word.
    - `by_person`: the same counts by who decided; "" where the platform does not tell. They add up to `fates`.
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
    def fates(self) -> Fates:
        return sum((cls.fates for cls in self.classes), Fates())
