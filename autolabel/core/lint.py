"""What a person should know about the prompts of a project before a GPU is asked: values in, findings out."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations, islice, permutations

import numpy as np
from numpy.typing import NDArray

from autolabel.core.prompts import SHAPES, PromptPlan, TokenCounts, nearest, pack_prompts
from autolabel.core.rows import OntologyClass, Project

ALIKE = 0.88
LONG_PROMPT_TOKENS = 12
EVERYTHING = "all classes"
DISTRACTORS = "the distractors"

VAGUE = re.compile(
    r"\b(background|etc|general|generic|ignore|misc|miscellaneous|n/?a|none|others?|undefined|unknown|unlabell?ed"
    r"|unspecified|various)\b"
)
"""Words that mean "what is not named": wherever one stands, there is nothing to look for."""

ABSTRACT = re.compile(
    r"(anomaly|area|artifact|class|damage|defect|entity|error|feature|finding|instance|instrument|issue|item|label"
    r"|object|part|region|roi|stuff|target|thing|tool|type)s?"
)
"""Words that name anything at all when they stand alone."""

NOT_VISUAL: Mapping[str, str] = {
    **dict.fromkeys(
        ("age", "gender", "sex", "name", "identity", "brand", "price", "type"), "a property, not a thing"
    ),
    **dict.fromkeys(("diagnosis", "disease", "grade", "severity", "risk", "status", "condition"), "a judgement"),
    **dict.fromkeys(("phase", "procedure", "action", "activity", "event", "time"), "a span of time"),
    **dict.fromkeys(("quality", "weather", "visibility", "lighting", "scene", "view"), "true of a whole frame"),
    **dict.fromkeys(("emotion", "intent", "intention", "pain", "mood"), "a state of mind"),
    **dict.fromkeys(("count", "distance", "speed", "temperature", "pressure"), "a measurement"),
}
"""What cannot be boxed, by the last word of a prompt, and what it is instead."""


class Severity(StrEnum):
    """`error`: a push refuses it. `warning`: labels will likely be wrong or missing. `note`: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """`subject`: a class's name, DISTRACTORS or EVERYTHING; `place`: file:line where a map has that class."""

    severity: Severity
    subject: str
    what: str
    advice: str
    place: str = ""

    def __str__(self) -> str:
        """One line, even where a name holds more."""
        return " ".join(f"{self.place or self.subject}: {self.what}; {self.advice}".split())


@dataclass(frozen=True)
class MapEntry:
    """What a prompt map says of a class beside its prompts: its place in the file, the shape that it repeats."""

    place: str
    shape: str | None = None


Entries = Mapping[str, MapEntry] | None
"""A map's classes by name; None where there is no map."""


def refusals(plan: PromptPlan, classes: Sequence[OntologyClass], entries: Entries) -> list[Finding]:
    """The errors for which a push stops before it asks any model."""
    found = [*_misfits(classes, entries or {}), *_empty_prompts(plan), *_nothing_to_do(plan, classes)]
    return _placed(found, entries)


def lint(plan: PromptPlan, project: Project, entries: Entries, tokens: TokenCounts) -> list[Finding]:
    """Everything worth saying about a plan, worst first; `tokens` counts `plan.prompts`."""
    found = [
        *_too_long(plan, tokens),
        *_unreadable(plan, tokens),
        *_poor_names(plan),
        *_alike(plan),
        *_names_inside_names(plan),
        *_not_asked(plan, project.classes, entries),
        *_left_to_people(plan, project),
        *_cost(plan, tokens),
    ]
    order = list(Severity)
    errors = refusals(plan, project.classes, entries)
    return sorted(errors + _placed(found, entries), key=lambda finding: order.index(finding.severity))


def _placed(found: Sequence[Finding], entries: Entries) -> list[Finding]:
    places = {name: entry.place for name, entry in (entries or {}).items()}
    return [replace(finding, place=places.get(finding.subject, "")) for finding in found]


def _misfits(classes: Sequence[OntologyClass], entries: Mapping[str, MapEntry]) -> Iterator[Finding]:
    for name, entry in entries.items():
        shapes = [item.shape for item in classes if item.name == name]
        if not shapes:
            known = [item.name for item in classes]
            yield Finding(Severity.ERROR, name, "the ontology has no such class", nearest(name, known))
        elif entry.shape is not None and entry.shape not in shapes:
            what = f"the ontology asks for {' and '.join(shapes)}, not {entry.shape}"
            yield Finding(Severity.ERROR, name, what, "a shape is changed in the ontology, not in the map")


def _empty_prompts(plan: PromptPlan) -> Iterator[Finding]:
    for owner, prompt in _owned(plan):
        if not any(char.isalnum() for char in prompt):
            what = f"a prompt is empty or holds no letter ({prompt!r})"
            yield Finding(Severity.ERROR, owner, what, "give its prompts in a prompt map")


def _nothing_to_do(plan: PromptPlan, classes: Sequence[OntologyClass]) -> Iterator[Finding]:
    if not plan.classes:
        what = f"no class of the ontology can be labelled: none of its {len(classes)} objects is asked for"
        advice = f"give one prompts, or add an object of shape {' or '.join(SHAPES)} to the ontology"
        yield Finding(Severity.ERROR, EVERYTHING, what, advice)


def _too_long(plan: PromptPlan, tokens: TokenCounts) -> Iterator[Finding]:
    for (owner, prompt), count in zip(_owned(plan), tokens.counts, strict=True):
        what = f"'{prompt}' takes {count} tokens"
        if count > tokens.budget:
            what += f", the model reads at most {tokens.budget}"
            yield Finding(Severity.ERROR, owner, what, "shorten it")
        elif count > LONG_PROMPT_TOKENS:
            yield Finding(Severity.WARNING, owner, what, "say it in two to four words")


def _unreadable(plan: PromptPlan, tokens: TokenCounts) -> Iterator[Finding]:
    advice = "give an English prompt in a prompt map"
    for i, (owner, prompt) in enumerate(_owned(plan)):
        if tokens.is_unreadable(i):
            yield Finding(Severity.ERROR, owner, f"the detector knows no word or letter of '{prompt}'", advice)
        elif any(char.isalpha() and "LATIN" not in unicodedata.name(char, "") for char in prompt):
            what = f"'{prompt}' is not in Latin letters: the detector spells it out and knows no such word"
            yield Finding(Severity.WARNING, owner, what, advice)
        elif tokens.unknown and tokens.unknown[i]:
            yield Finding(Severity.WARNING, owner, f"the detector cannot read all of '{prompt}'", advice)


def _poor_names(plan: PromptPlan) -> Iterator[Finding]:
    for owner, prompt in _owned(plan):
        fault = _fault(prompt) if prompt else None
        if fault:
            what, advice = fault
            yield Finding(Severity.WARNING, owner, f"'{prompt}' {what}", advice)


def _fault(prompt: str) -> tuple[str, str] | None:
    """What is wrong with a prompt's words and what to do, or None."""
    words = prompt.split()
    named = [word for word in words if not any(char.isdigit() for char in word)]
    if VAGUE.search(prompt):
        return "names what is left over", "name what is to be seen, or leave it to people (prompts: [])"
    if not named or ABSTRACT.fullmatch(" ".join(named)):
        return "names no kind of thing", "say what it looks like, or leave it to people (prompts: [])"
    if len(named) < len(words):
        return "holds a number, which the detector cannot see", "say what sets it apart to the eye"
    if named[-1] in NOT_VISUAL:
        advice = "ask it as a classification, and leave this class to people (prompts: [])"
        return f"cannot be boxed: '{named[-1]}' is {NOT_VISUAL[named[-1]]}", advice
    return None


def _alike(plan: PromptPlan) -> Iterator[Finding]:
    column = {prompt: i for i, prompt in enumerate(plan.prompts)}
    spelt = [prompt.replace(" ", "").replace("-", "") for prompt in plan.prompts]
    in_order = [" ".join(sorted(_words(prompt))) for prompt in plan.prompts]
    may_be = (_share_letters(spelt) | _share_letters(in_order)).tolist()

    def are_alike(a: int, b: int) -> bool:
        """Spelt almost the same, or made of almost the same words in any order."""
        return may_be[a][b] and (_are_close(spelt[a], spelt[b]) or _are_close(in_order[a], in_order[b]))

    for (name, prompts), (other, others) in combinations(_groups(plan), 2):
        pairs = ((a, b) for a in prompts for b in others if are_alike(column[a], column[b]))
        for prompt, like in islice(pairs, 1):
            what = f"'{prompt}' is hardly told from '{like}' of {other}"
            yield Finding(Severity.WARNING, name, what, "give prompts that set them apart, or ask for one of the two")


def _are_close(text: str, other: str) -> bool:
    return bool(difflib.get_close_matches(text, [other], cutoff=ALIKE))


def _share_letters(texts: Sequence[str]) -> NDArray[np.bool_]:
    """(N, N) which could be close by their letters, in whatever order: to compare all by difflib takes seconds."""
    letters = sorted(set("".join(texts)))
    counts = np.array([[text.count(char) for char in letters] for text in texts], np.intp).reshape(
        len(texts), len(letters)
    )
    shared = np.array([np.minimum(counts, row).sum(axis=1) for row in counts], np.intp)
    length = counts.sum(axis=1)
    may_be: NDArray[np.bool_] = 2 * shared >= ALIKE * (length[:, None] + length) - 1e-6
    return may_be


def _names_inside_names(plan: PromptPlan) -> Iterator[Finding]:
    """Not where the longer one is a distractor: that is what a distractor is for."""
    for (name, prompts), (other, others) in permutations(_groups(plan), 2):
        pairs = ((a, b) for a in prompts for b in others if other != DISTRACTORS and _is_part(_words(a), _words(b)))
        for prompt, longer in islice(pairs, 1):
            what = f"'{prompt}' is part of '{longer}' of {other} and will answer to it"
            yield Finding(Severity.WARNING, name, what, "look at both in a preview, or say more in the shorter one")


def _is_part(words: Sequence[str], longer: Sequence[str]) -> bool:
    starts = range(len(longer) - len(words) + 1)
    return 0 < len(words) < len(longer) and any(longer[i : i + len(words)] == words for i in starts)


def _words(prompt: str) -> list[str]:
    """Words without the s of a plural: good for comparing, not for reading."""
    return [word.removesuffix("s") if len(word) > 3 else word for word in prompt.split()]


def _owned(plan: PromptPlan) -> list[tuple[str, str]]:
    """Every prompt in column order, after the name of the class that it means or DISTRACTORS."""
    names = [plan.classes[i].name if i >= 0 else DISTRACTORS for i in plan.class_of_prompt]
    return list(zip(names, plan.prompts, strict=True))


def _groups(plan: PromptPlan) -> list[tuple[str, tuple[str, ...]]]:
    groups = [(cls.name, cls.prompts) for cls in plan.classes]
    return [*groups, (DISTRACTORS, plan.distractors)] if plan.distractors else groups


def _not_asked(plan: PromptPlan, classes: Sequence[OntologyClass], entries: Entries) -> Iterator[Finding]:
    asked = {cls.feature_hash: cls for cls in plan.classes}
    for item in classes:
        if item.shape not in SHAPES:
            what, advice = f"no detection gives a {item.shape}", "its objects are left to people"
            yield Finding(Severity.NOTE, item.name, what, advice)
        elif item.feature_hash not in asked:
            yield Finding(Severity.NOTE, item.name, "has no prompts", "its objects are left to people")
        elif entries is not None and item.name not in entries:
            what = f"the map leaves it out, so it is asked for as '{asked[item.feature_hash].prompts[0]}'"
            yield Finding(Severity.NOTE, item.name, what, "add it, with prompts or with [] to leave it to people")


def _left_to_people(plan: PromptPlan, project: Project) -> Iterator[Finding]:
    required = {item.feature_hash: item.required for item in project.classes}
    for cls in plan.classes:
        names = required[cls.feature_hash]
        if names:
            advice = f"they are left to people, at most {len(names) * cls.max_instances} a frame"
            yield Finding(Severity.NOTE, cls.name, f"required answers an object: {_listed(names)}", advice)
    if project.required_questions:
        what = f"required answers a frame: {_listed(project.required_questions)}"
        yield Finding(Severity.NOTE, EVERYTHING, what, "they are left to people")


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"


def _cost(plan: PromptPlan, tokens: TokenCounts) -> Iterator[Finding]:
    try:
        passes = len(pack_prompts(tokens, plan.per_pass))
    except ValueError:  # told of before
        return
    if not passes:
        return
    limits = f"{tokens.budget} tokens" + (f" and {plan.per_pass} prompts" if plan.per_pass else "")
    what = f"prompts: {len(tokens.counts)}, tokens: {sum(tokens.counts)}, passes of at most {limits}: {passes}"
    advice = "nothing to do" if passes == 1 else "each pass costs the detector's time again; fewer prompts are faster"
    yield Finding(Severity.NOTE, EVERYTHING, what, advice)
