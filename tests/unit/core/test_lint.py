from __future__ import annotations

import difflib
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.lint import ALIKE, EVERYTHING, Finding, MapEntry, Severity, lint, refusals
from autolabel.core.prompts import SHAPES, ClassPlan, PromptPlan, TokenCounts, normalise
from autolabel.core.rows import OntologyClass, Project, Workflow


def ontology(*names: str, shape: str = SHAPES[0], required: tuple[str, ...] = ()) -> tuple[OntologyClass, ...]:
    return tuple(OntologyClass(f"{shape} {name}", name, shape, "#000000", required) for name in names)


def plan_of(classes: tuple[OntologyClass, ...], *distractors: str) -> PromptPlan:
    asked = [item for item in classes if item.shape in SHAPES]
    plans = [ClassPlan(item.feature_hash, item.name, SHAPES[0], (normalise(item.name),), 0.3, 10) for item in asked]
    return PromptPlan(tuple(plans), distractors)


def lint_names(*names: str, distractors: tuple[str, ...] = (), tokens: int = 2) -> list[Finding]:
    classes = ontology(*names)
    plan = plan_of(classes, *distractors)
    counts = TokenCounts((tokens,) * len(plan.prompts), 254)
    return lint(plan, Project("p1", "Project", Workflow(()), classes), None, counts)


def warnings(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.subject, finding.what) for finding in findings if finding.severity == Severity.WARNING]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Other", "'other' names what is left over"),
        ("Misc items", "'misc items' names what is left over"),
        ("Background", "'background' names what is left over"),
        ("unknown_vehicle", "'unknown vehicle' names what is left over"),
        ("defect_2", "'defect 2' names no kind of thing"),
        ("Objects", "'objects' names no kind of thing"),
        ("17", "'17' names no kind of thing"),
        ("Crack type3", "'crack type3' holds a number, which the detector cannot see"),
        ("Diagnosis", "'diagnosis' cannot be boxed: 'diagnosis' is a judgement"),
        ("Image quality", "'image quality' cannot be boxed: 'quality' is true of a whole frame"),
        ("Surgical phase", "'surgical phase' cannot be boxed: 'phase' is a span of time"),
    ],
)
def test_a_name_that_no_detector_can_look_for(name: str, what: str) -> None:
    assert warnings(lint_names(name)) == [(name, what)]


@pytest.mark.parametrize("name", ["Scissors", "Price tag", "Mother", "Needle holder", "surgical instrument"])
def test_a_name_of_a_visible_thing_passes(name: str) -> None:
    assert warnings(lint_names(name)) == []


@pytest.mark.parametrize(
    "names", [("Clamp", "Clamps"), ("screwdriver", "Screw driver"), ("left hand", "Hand, left"), ("color", "colour")]
)
def test_near_duplicates_are_told_once(names: tuple[str, str]) -> None:
    ((subject, what),) = warnings(lint_names(*names))
    assert subject == names[0]
    assert "is hardly told from" in what


@given(st.lists(st.text("abc -", min_size=1, max_size=12), max_size=6, unique_by=normalise))
def test_near_duplicates_are_those_that_difflib_finds(names: list[str]) -> None:
    found = {(name, what) for name, what in warnings(lint_names(*names)) if "is hardly told from" in what}

    def close(*texts: str) -> bool:
        return bool(difflib.get_close_matches(texts[0], texts[1:], cutoff=ALIKE))

    expected = set()
    for name, other in combinations(names, 2):
        a, b = normalise(name), normalise(other)
        spelt = [text.replace(" ", "").replace("-", "") for text in (a, b)]
        if close(*spelt) or close(*(" ".join(sorted(text.split())) for text in (a, b))):
            expected.add((name, f"'{a}' is hardly told from '{b}' of {other}"))
    assert found == expected


@pytest.mark.parametrize(
    "names", [("Car", "Cart"), ("Bus", "Bush"), ("red circle", "red square"), ("left hand", "right hand")]
)
def test_names_that_differ_are_not_near_duplicates(names: tuple[str, str]) -> None:
    assert warnings(lint_names(*names)) == []


def test_a_name_inside_a_name_is_told_by_whole_words() -> None:
    assert warnings(lint_names("Dogs", "Dogma", "Hot dog")) == [
        ("Dogs", "'dogs' is part of 'hot dog' of Hot dog and will answer to it")
    ]


def test_a_longer_distractor_is_meant_to_hold_a_name_but_not_the_other_way() -> None:
    assert warnings(lint_names("dog", distractors=("hot dog",))) == []
    assert [subject for subject, _ in warnings(lint_names("needle holder", distractors=("needle",)))] == [
        "the distractors"
    ]


def test_a_map_is_held_against_the_ontology() -> None:
    classes = (*ontology("Scissors", "Clamp"), *ontology("Lane", shape="polyline"))
    entries = {"Scissor": MapEntry("tools.yaml:12: classes.Scissor"), "Clamp": MapEntry("tools.yaml:14", "bitmask")}

    found = [str(finding) for finding in refusals(plan_of(classes), classes, entries)]

    assert found == [
        "tools.yaml:12: classes.Scissor: the ontology has no such class; did you mean 'Scissors'?",
        f"tools.yaml:14: the ontology asks for {SHAPES[0]}, not bitmask; "
        "a shape is changed in the ontology, not in the map",
    ]


def test_what_is_left_to_people_is_counted() -> None:
    classes = (*ontology("Clamp", required=("Side", "Size")), *ontology("Hook"), *ontology("Lane", shape="polyline"))
    asked = PromptPlan(plan_of(classes).classes[:1])
    project = Project("p1", "Project", Workflow(()), classes, required_questions=("Quality",))

    notes = [(item.subject, item.what, item.advice) for item in lint(asked, project, None, TokenCounts((2,), 254))]

    assert notes == [
        ("Hook", "has no prompts", "its objects are left to people"),
        ("Lane", "no detection gives a polyline", "its objects are left to people"),
        ("Clamp", "required answers an object: 2 (Side, Size)", "they are left to people, at most 20 a frame"),
        (EVERYTHING, "required answers a frame: 1 (Quality)", "they are left to people"),
        (EVERYTHING, "prompts: 1, tokens: 2, passes of at most 254 tokens: 1", "nothing to do"),
    ]


def test_a_class_that_the_map_leaves_out_is_asked_for_by_its_name() -> None:
    classes = ontology("Clamp", "Bone saw")
    found = lint(
        plan_of(classes), Project("p1", "P", Workflow(()), classes), {"Clamp": MapEntry("x")}, TokenCounts((2, 2), 9)
    )
    assert [item.what for item in found if item.subject == "Bone saw"] == [
        "the map leaves it out, so it is asked for as 'bone saw'"
    ]


@pytest.mark.parametrize(
    ("tokens", "severity"),
    [(12, Severity.NOTE), (13, Severity.WARNING), (254, Severity.WARNING), (255, Severity.ERROR)],
)
def test_a_long_prompt_is_told_and_one_beyond_the_models_limit_is_an_error(tokens: int, severity: Severity) -> None:
    assert lint_names("clamp", tokens=tokens)[0].severity == severity


def test_passes_are_counted() -> None:
    assert "passes of at most 254 tokens: 3" in lint_names("clamp", "gauze", "syringe", tokens=200)[-1].what


@given(st.sets(st.text(), max_size=6), st.sets(st.text().map(normalise), max_size=3), st.integers(1, 300))
def test_any_names_give_findings_worst_first_in_one_line_each(
    names: set[str], distractors: set[str], tokens: int
) -> None:
    found = lint_names(*names, distractors=tuple(distractors), tokens=tokens)

    ranks = [list(Severity).index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert len(set(found)) == len(found)
    assert all(len(str(finding).splitlines()) == 1 for finding in found)
    nameless = [text for text in (*map(normalise, names), *distractors) if not any(map(str.isalnum, text))]
    assert sum("holds no letter" in finding.what for finding in found) == len(nameless)


def test_prompts_that_share_a_pass_by_the_recipe_are_counted_with_it() -> None:
    classes = ontology("Clamp", "Gauze", "Syringe")
    plan = replace(plan_of(classes), per_pass=2)

    found = lint(plan, Project("p1", "P", Workflow(()), classes), None, TokenCounts((2, 2, 2), 254))

    assert "passes of at most 254 tokens and 2 prompts: 2" in found[-1].what


@pytest.mark.parametrize("name", ["--", "( )", "🐕", "…", "\u200b", "\u0301"])
def test_a_name_without_a_letter_stops_a_push(name: str) -> None:
    classes = ontology(name)

    (refused,) = refusals(plan_of(classes), classes, None)

    assert "holds no letter" in refused.what


@pytest.mark.parametrize("name", ["собака", "狗", "كلب", "σκύλος"])
def test_a_name_in_other_letters_is_told_even_where_the_vocabulary_has_them(name: str) -> None:
    assert warnings(lint_names(name)) == [
        (name, f"'{name}' is not in Latin letters: the detector spells it out and knows no such word")
    ]


@pytest.mark.parametrize("name", ["Löffel", "T-bar (left)", "naïve café", "a/b"])
def test_diacritics_and_punctuation_pass(name: str) -> None:
    assert warnings(lint_names(name)) == []


@pytest.mark.parametrize(("unknown", "severity"), [(1, Severity.WARNING), (2, Severity.ERROR)])
def test_a_prompt_that_the_vocabulary_lacks_is_told_by_how_much_of_it(unknown: int, severity: Severity) -> None:
    classes = ontology("Clamp")
    tokens = TokenCounts((3,), 254, (unknown,))

    (told, *_) = lint(plan_of(classes), Project("p1", "P", Workflow(()), classes), None, tokens)

    assert (told.subject, told.severity) == ("Clamp", severity)
