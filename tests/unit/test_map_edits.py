"""What a trial found goes into a person's map: it says the edits, and nothing else of the file has changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autolabel.documents import read_document, shelf
from autolabel.errors import PermanentUsageError
from autolabel.map_edits import ClassEdit, editable_map, propose, write
from autolabel.prompt_map import ClassPrompts, PromptMap

MAP = """\
# Trays
classes:
  Scissors:
    prompts:  # what the eye sees
      - surgical scissors  # ours are short
      - scissors

  # these are thin
  Forceps: { prompts: [ forceps,tweezers ], threshold: .30 }   # mine
  'Needle holder':
      prompts: [needle driver,
                surgical pliers]
      threshold:   0.4
distractors: []
# the end
"""
WORDS = st.text("abé \u00a0日🙂:#'\"-{}[],&*!|>%@?", min_size=1, max_size=8)
PROMPTS = st.none() | st.lists(WORDS, max_size=3)
SCORES = st.integers(0, 100).map(lambda hundredth: hundredth / 100)
EDITS = st.builds(ClassEdit, WORDS, st.none() | SCORES, st.booleans(), why=st.text("ab \n#:", max_size=9))
can_be_calibrated = pytest.mark.skipif(
    "calibration" not in ClassPrompts.model_fields, reason="maps cannot hold a calibration yet"
)


def written(folder: str | Path, text: str) -> Path:
    path = Path(folder) / "tools.yaml"
    path.write_bytes(text.encode())
    return path


@st.composite
def maps(draw: st.DrawFn) -> str:
    """A map as people write them: in braces or on lines, comments anywhere, either kind of line end."""
    lines = ["# top", "classes:" if (names := draw(st.lists(WORDS, unique=True, max_size=4))) else "classes: {}"]
    for i, name in enumerate(names):
        prompts, threshold = draw(PROMPTS), draw(st.none() | SCORES)
        own = {"prompts": prompts} | ({} if threshold is None else {"threshold": threshold})
        key, flow = in_braces(name), draw(st.booleans())
        lines += [f"  # before {i}", *([""] if draw(st.booleans()) else [])]
        block = yaml.safe_dump(own, default_flow_style=draw(st.sampled_from([None, False])), allow_unicode=True)
        lines += [f"  {key}: {in_braces(own)}   # at {i}"] if flow else [f"  {key}:  # at {i}"]
        lines += [] if flow else [f"     {line}" for line in block.splitlines()]
    return draw(st.sampled_from(["\n", "\r\n"])).join([*lines, "distractors: [ x,y ]  # last"])


def in_braces(value: object) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).rstrip()[1:-1]


def expected(content: PromptMap, edits: Sequence[ClassEdit]) -> PromptMap:
    classes = dict(content.classes)
    for edit in edits:
        off = {"prompts": ()} if edit.switched_off else {}
        changes = off | ({} if edit.threshold is None else {"threshold": edit.threshold})
        if changes:
            classes[edit.name] = classes.get(edit.name, ClassPrompts()).model_copy(update=changes)
    return content.model_copy(update={"classes": classes})


@settings(max_examples=30)
@given(maps(), st.lists(EDITS, min_size=6, max_size=6), st.data())
def test_the_map_says_exactly_the_edits_and_a_second_time_changes_nothing(
    text: str, drafts: list[ClassEdit], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = written(folder, text)
        before = read_document(path, PromptMap).content
        known = data.draw(st.permutations(sorted(before.classes)))
        names = dict.fromkeys([*known, *(draft.name for draft in drafts)])
        edits = [replace(draft, name=name) for draft, name in zip(drafts, names, strict=False)]
        write(propose(path, edits))
        assert read_document(path, PromptMap).content == expected(before, edits)
        assert propose(path, edits).diff == ""
        kept = [found for line in text.splitlines() for found in re.findall("# (?:before|at) .", line)]
        assert [found for found in kept if found not in path.read_text()] == []


def test_only_the_lines_that_change_are_touched(tmp_path: Path) -> None:
    edits = [
        ClassEdit("Forceps", 0.41, why="saves 5 s"),
        ClassEdit("Needle holder", 0.5, why="saves 2 s"),
        ClassEdit("Gauze", 0.6, why="saves 1 s"),
    ]

    changed = propose(written(tmp_path, MAP), edits).diff.splitlines()[2:]

    assert [line for line in changed if line[0] in "+-"] == [
        "-  Forceps: { prompts: [ forceps,tweezers ], threshold: .30 }   # mine",
        "+  Forceps: { prompts: [ forceps,tweezers ], threshold: 0.41 }  # trial: saves 5 s  # mine",
        "-      threshold:   0.4",
        "+      threshold: 0.5  # trial: saves 2 s",
        "+  Gauze:",
        "+    threshold: 0.6  # trial: saves 1 s",
    ]


def test_prompts_of_a_class_that_is_switched_off_stay_in_a_comment_with_what_people_noted(tmp_path: Path) -> None:
    off = [ClassEdit(name, switched_off=True, why="costs 2 s more") for name in ("Scissors", "Forceps", "Gauze")]

    new = propose(written(tmp_path, MAP), off).new

    assert "    prompts: []  # trial: costs 2 s more, was:  # what the eye sees\n" in new
    assert "#      - surgical scissors  # ours are short\n#      - scissors\n\n  # these are thin\n" in new
    assert "prompts: [], threshold: .30 }  # trial: costs 2 s more, was: [ forceps,tweezers ]  # mine\n" in new
    assert "  Gauze:\n    prompts: []  # trial: costs 2 s more\n" in new


def test_a_later_trial_replaces_what_an_earlier_one_said(tmp_path: Path) -> None:
    path = written(tmp_path, MAP)
    write(propose(path, [ClassEdit("Needle holder", 0.5, why="of May")]))

    write(propose(path, [ClassEdit("Needle holder", 0.6, why="of June")]))

    assert path.read_text() == MAP.replace("threshold:   0.4", "threshold: 0.6  # trial: of June")


def test_a_map_without_classes_gets_them(tmp_path: Path) -> None:
    path = written(tmp_path, "classes: {}")

    write(propose(path, [ClassEdit("A", 0.5, why="one"), ClassEdit("B", switched_off=True, why="two")]))

    assert path.read_text() == "classes: {A: {threshold: 0.5}, B: {prompts: []}}  # trial: A: one; B: two"


@pytest.mark.parametrize(
    "text",
    [
        "classes:\n  A: &a {prompts: [a], threshold: 0.3}\n  B: *a\n",
        "classes:\n  A: {prompts: [a], threshold: &t 0.3}\n  B: {threshold: *t}\n",
    ],
)
def test_an_edit_that_would_change_another_class_through_an_anchor_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PermanentUsageError, match=r"anchors.*nothing was changed"):
        propose(written(tmp_path, text), [ClassEdit("A", 0.5)])


def test_what_comes_from_an_anchor_is_given_to_one_class_alone(tmp_path: Path) -> None:
    text = "classes:\n  A: &a {prompts: [a], threshold: &t 0.3}\n  B:\n    <<: *a\n  C: {threshold: *t}\n"

    new = propose(written(tmp_path, text), [ClassEdit("B", 0.5), ClassEdit("C", 0.6)]).new

    assert new.endswith("  B:\n    <<: *a\n    threshold: 0.5\n  C: {threshold: 0.6}\n")


def test_a_map_that_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, MAP)
    proposal = propose(path, [ClassEdit("Forceps", 0.5)])
    path.write_text("classes: {Forceps: {threshold: 0.2}}")

    with pytest.raises(PermanentUsageError, match="changed since it was read; nothing was written"):
        write(proposal)

    assert path.read_text() == "classes: {Forceps: {threshold: 0.2}}"


def test_a_written_map_keeps_its_mode_and_the_link_that_leads_to_it(tmp_path: Path) -> None:
    path = written(tmp_path, MAP)
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)

    write(propose(link, [ClassEdit("Forceps", 0.5)]))

    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(item.name for item in tmp_path.iterdir()) == ["link.yaml", "tools.yaml"]


def test_a_map_that_cannot_be_written_is_said_to_be_unchanged(tmp_path: Path) -> None:
    proposal = propose(written(tmp_path, MAP), [ClassEdit("Forceps", 0.5)])
    (tmp_path / "tools.yaml").unlink()

    with pytest.raises(PermanentUsageError, match=r"cannot be written \(No such file or directory\); nothing was"):
        write(proposal)


@can_be_calibrated
def test_calibrations_of_other_prompts_are_put_out_of_force(tmp_path: Path) -> None:
    old = "{calibration: [[0.1, 0.2], [0.9, 0.8]]}"
    text = f"calibrated_for: aa\nclasses:\n  A: {old}\n  B: {old}\n"

    new = propose(written(tmp_path, text), [ClassEdit("A", calibration=((0.1, 0.3), (0.5, 0.75)))], "bb").new

    assert new == (
        "calibrated_for: bb\nclasses:\n  A: {calibration: [[0.1, 0.3], [0.5, 0.75]]}\n  B: {calibration: null}\n"
    )


@pytest.mark.parametrize("prompt_map", [None, "retail", str(shelf("ontologies")["retail"])])
def test_a_recipe_without_a_map_of_its_own_is_told_how_to_get_one(prompt_map: str | None) -> None:
    with pytest.raises(PermanentUsageError, match=r"nothing was changed.*ontology init.*prompt_map: tools\.yaml"):
        editable_map(prompt_map)


def test_a_recipes_own_map_can_be_edited(tmp_path: Path) -> None:
    assert editable_map(str(written(tmp_path, MAP))) == tmp_path / "tools.yaml"
