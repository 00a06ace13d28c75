"""Prompt maps: those that ship are sound, and the one that is written for a project loads as it is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autolabel.core.lint import Severity, lint
from autolabel.core.prompts import SHAPES, TokenCounts, normalise
from autolabel.core.rows import OntologyClass, Project, Workflow
from autolabel.documents import read_document
from autolabel.errors import PermanentUsageError
from autolabel.prompt_map import PromptMap, load_prompt_map, map_entries, render_prompt_map
from autolabel.recipe import draft_prompts, load_config

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "ontologies").glob("*.yaml"))
NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), max_size=5)


def project(*classes: OntologyClass) -> Project:
    return Project("p1", "Trays: 1", Workflow(()), classes)


def classes_named(names: list[str], shape: str) -> list[OntologyClass]:
    return [OntologyClass(f"{shape}{i}", name, shape, "#000000") for i, name in enumerate(names)]


def written(rendered: str) -> PromptMap:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "written.yaml"
        path.write_text(rendered, encoding="utf-8")
        return read_document(path, PromptMap).content


@given(NAMES, NAMES)
@example(["\x85"], [])
def test_a_written_map_loads_and_asks_for_every_class_by_its_name(usable: list[str], others: list[str]) -> None:
    classes = (*classes_named(usable, SHAPES[0]), *classes_named(others, "polyline"))

    found = written(render_prompt_map(project(*classes)))

    assert {name: own.prompts for name, own in found.classes.items()} == {
        name: (normalise(name),) if normalise(name) else () for name in usable
    }


def test_a_written_map_lists_what_is_left_to_people() -> None:
    text = render_prompt_map(project(*classes_named(["Scissors"], "bitmask"), *classes_named(["Lane"], "polyline")))

    assert "  Scissors:\n    prompts: [scissors]\n" in text
    assert "  # Left to people, since no detection gives such a shape: Lane (polyline)\n" in text


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_maps_give_the_linter_nothing_to_warn_of(name: str) -> None:
    document = load_prompt_map(name)
    found = project(*classes_named(list(document.content.classes), "bitmask"))
    plan = draft_prompts(load_config("default"), document, found.classes)

    findings = lint(plan, found, map_entries(document), TokenCounts((3,) * len(plan.prompts), 254))

    assert [str(finding) for finding in findings if finding.severity != Severity.NOTE] == []


@pytest.mark.parametrize("points", [[], [[0.1, 0.2]], [[0.5, 0.1], [0.5, 0.2]], [[0.1, 0.5], [0.9, 0.4]], [[0, 1.5]]])
def test_a_calibration_that_does_not_rise_is_refused_by_name(tmp_path: Path, points: list[list[float]]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"classes:\n  Car:\n    calibration: {points}\n")
    with pytest.raises(PermanentUsageError, match=r"mine\.yaml:3: classes\.Car\.calibration"):
        load_prompt_map(str(path))
