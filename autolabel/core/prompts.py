"""Ontology classes -> prompts -> the text that a detector reads, and back from its tokens to prompts."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Shape = Literal["bounding_box", "rotatable_bounding_box", "polygon", "bitmask"]
SHAPES: tuple[Shape, ...] = get_args(Shape)


def needs_mask(shape: Shape) -> bool:
    """Whether an object of this shape is drawn from its mask, and cannot be without."""
    return shape != "bounding_box"


@dataclass(frozen=True)
class ClassPlan:
    """How one ontology object is looked for.

    - `feature_hash`: the ontology's key of the class; titles need not be unique, this is.
    - `prompts`: texts that all mean this class; normalised, never empty.
    - `threshold`: least class score that is kept, in [0, 1].
    - `max_instances`: most objects of this class a frame may get; the best stay.
    - `calibration`: (score, confidence) by rising score, neither falling; empty where confidence is the score itself.
    """

    feature_hash: str
    name: str
    shape: Shape
    prompts: tuple[str, ...]
    threshold: float
    max_instances: int
    calibration: tuple[tuple[float, float], ...] = ()

    def confidence(self, score: float) -> float:
        """What a label of this score says of itself; between two points on the line that joins them."""
        if not self.calibration:
            return score
        scores, confidences = zip(*self.calibration, strict=True)
        return float(np.interp(score, scores, confidences))


@dataclass(frozen=True)
class PromptPlan:
    """What a detector is asked: the classes, and `distractors`, prompts that mean none of them.

    `per_pass`: how many prompts a detector may be asked at once; None for as many as it can read. Prompts that share
    a pass compete for the same objects; each pass costs a whole forward.
    """

    classes: tuple[ClassPlan, ...]
    distractors: tuple[str, ...] = ()
    per_pass: int | None = None

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts in column order: each class's, then the distractors."""
        return (*(prompt for cls in self.classes for prompt in cls.prompts), *self.distractors)

    @property
    def class_of_prompt(self) -> tuple[int, ...]:
        """For each prompt the index of its class; -1 for a distractor."""
        owners = [i for i, cls in enumerate(self.classes) for _ in cls.prompts]
        return (*owners, *(-1 for _ in self.distractors))

    @property
    def least_score(self) -> float:
        """The least threshold of any class, 1 where there is none: a detector leaves out what it scores below that.

        This goes for distractors too: one takes only what it scores at least so high for.
        """
        return min((cls.threshold for cls in self.classes), default=1.0)


@dataclass(frozen=True)
class TokenCounts:
    """What each prompt of a plan costs a model, with its closing '.', and how much it reads in one pass.

    `unknown`: how many of each prompt's tokens stand for what the model's vocabulary lacks; empty for none.
    """

    counts: tuple[int, ...]
    budget: int
    unknown: tuple[int, ...] = ()

    def is_unreadable(self, prompt: int) -> bool:
        """Whether nothing of a prompt but its closing '.' is in the vocabulary."""
        return bool(self.unknown) and self.unknown[prompt] >= self.counts[prompt] - 1


def nearest(name: str, known: Collection[str]) -> str:
    """What to say to somebody who gave a name that is not known."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"


def normalise(text: str) -> str:
    """A name as people write it -> a prompt as Grounding DINO was trained on.

    Lower case; '.' and '?' end a phrase for the model, so inside one they become spaces, as do underscores.
    Characters that cannot be seen go. May come out empty: the caller decides what that means.
    """
    seen = "".join(char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    return re.sub(r"[\s._?]+", " ", seen).strip().lower()


def pack_prompts(tokens: TokenCounts, per_pass: int | None = None) -> list[range]:
    """Consecutive prompts -> as few passes as the token budget and `per_pass` prompts allow, as even as can be.

    Passes are split at prompt borders only. Raises ValueError, naming the prompt by its column, where one alone is
    too long or nothing of it is in the model's vocabulary.
    """
    for i, cost in enumerate(tokens.counts):
        if cost > tokens.budget:
            raise ValueError(f"prompt {i} takes {cost} tokens, the model reads at most {tokens.budget}; shorten it")
        if tokens.is_unreadable(i):
            raise ValueError(f"the model knows no word or letter of prompt {i}; say it in English")
    best = [(0, 0, 0)]  # up to each prompt: passes, the sum of their squared tokens, where the last one starts
    for stop in range(1, len(tokens.counts) + 1):
        options, used = [], 0
        for start in range(stop - 1, max(0, stop - (per_pass or stop)) - 1, -1):
            used += tokens.counts[start]
            if used > tokens.budget:
                break
            options.append((best[start][0] + 1, best[start][1] + used**2, start))
        best.append(min(options))
    passes: list[range] = []
    stop = len(tokens.counts)
    while stop:
        passes.append(range(best[stop][2], stop))
        stop = passes[-1].start
    return passes[::-1]


def prompt_spans(token_ids: Sequence[int], delimiter_ids: frozenset[int]) -> list[list[int]]:
    """Positions of the tokens of each prompt in a tokenised 'a. b. c.', in order.

    `delimiter_ids`: the ids of '.', '?' and the special tokens, which belong to no prompt.
    """
    spans: list[list[int]] = []
    current: list[int] = []
    for position, token in enumerate(token_ids):
        if token not in delimiter_ids:
            current.append(position)
        elif current:
            spans.append(current)
            current = []
    return [*spans, current] if current else spans
