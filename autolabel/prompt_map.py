"""Prompt maps, the files of `ontologies/`: how each class is asked for. Read, and written to be edited."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from autolabel.core.lint import MapEntry
from autolabel.core.prompts import SHAPES, Shape, normalise
from autolabel.core.rows import OntologyClass, Project
from autolabel.documents import Document, Strict, find, read_document

Score = Annotated[float, Field(ge=0, le=1)]


def _rising(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    pairs = list(itertools.pairwise(knots))
    if not pairs or any(a[0] >= b[0] or a[1] > b[1] for a, b in pairs):
        raise ValueError("it takes two or more pairs [score, confidence]: scores rising, confidences not falling")
    return knots


Knots = Annotated[tuple[tuple[Score, Score], ...], AfterValidator(_rising)]
"""(score, confidence) of a calibration."""

HEADER = """\
# How the detector is asked for each class. Edit it, name it in a recipe (`prompt_map: FILE`), and check it with
# `autolabel ontology check --project HASH --config RECIPE`. For each class:
#   prompts        what to look for: concrete, visible things in the singular; several may mean one class,
#                  none ([]) leaves the class to people
#   threshold      least score that is kept [the recipe's]
#   max_instances  most objects of the class a frame [the recipe's]
#   shape          repeats the ontology's, so that the map is refused where the ontology asks for another
# Distractors are prompts that mean no class: things that look alike and would be taken for one.
"""


class ClassPrompts(Strict):
    """One class of a prompt map; what is left out comes from the ontology's name and the config.

    `calibration`: how often its detections were right by score, as a trial found.
    """

    prompts: tuple[str, ...] | None = None
    threshold: Score | None = None
    max_instances: Annotated[int, Field(ge=1)] | None = None
    shape: Shape | None = None
    calibration: Knots | None = None


class PromptMap(Strict):
    """Class name -> its prompts; distractors are prompts that mean no class.

    `calibrated_for`: `Recipe.scoring_id` of the recipe whose scores the calibrations are of.
    """

    classes: dict[str, ClassPrompts]
    distractors: tuple[str, ...] = ()
    calibrated_for: str | None = None


def load_prompt_map(name: str) -> Document[PromptMap]:
    """A prompt map by name or path. Raises PermanentUsageError."""
    return read_document(find("ontologies", name), PromptMap)


def map_entries(document: Document[PromptMap] | None) -> Mapping[str, MapEntry] | None:
    """What the linter wants to know of the map."""
    if document is None:
        return None
    return {name: MapEntry(document.at("classes", name), own.shape) for name, own in document.content.classes.items()}


def render_prompt_map(project: Project) -> str:
    """A map to edit: every class that can be made, with the prompt that its name gives. Loads as it is."""
    usable = {item.name: item for item in project.classes if item.shape in SHAPES}
    left = [item for item in project.classes if item.shape not in SHAPES]
    classes = "".join(_entry(name) for name in usable)
    body = f"classes:\n{textwrap.indent(classes, '  ')}" if classes else "classes: {}\n"
    return f"# Prompts for {_one_line(project.title)}\n{HEADER}{body}{_comment(left)}distractors: []\n"


def _entry(name: str) -> str:
    prompt = normalise(name)
    entry: dict[str, Any] = {name: {"prompts": [prompt] if prompt else []}}
    return yaml.safe_dump(entry, default_flow_style=None, allow_unicode=name.isprintable(), width=10_000)


def _comment(left: Iterable[OntologyClass]) -> str:
    named = ", ".join(f"{_one_line(item.name)} ({item.shape})" for item in left)
    return f"  # Left to people, since no detection gives such a shape: {named}\n" if named else ""


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
