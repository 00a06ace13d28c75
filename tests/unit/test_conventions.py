"""House rules that a machine can hold: sizes, documented settings and commands, one fake a seam."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import fakes
import platform_fakes
from autolabel.cli import app
from autolabel.core.rows import REASON_TEXT
from autolabel.evaluation.costs import Costs
from autolabel.settings import Pathways, Settings

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "autolabel").rglob("*.py"))
NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def depth(node: ast.AST) -> int:
    """Nested blocks; an `elif` counts with its `if`, an inner function for itself."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            continue
        is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth(child) + (isinstance(child, NESTING) and not is_elif))
    return deepest


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_says_what_it_owns_and_has_short_flat_functions(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text))
    long = [f.name for f in functions(path) if (f.end_lineno or 0) - f.lineno >= 60]
    deep = [f.name for f in functions(path) if depth(f) > 3]
    assert (long, deep) == ([], [])


def test_the_example_environment_lists_every_setting_and_no_other() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = {found.group(1) for line in lines if (found := re.match(r"#? ?([A-Z_]+)=", line))}
    fields = {
        str(field.validation_alias or f"AUTOLABEL_{name.upper()}")
        for name, field in Settings.model_fields.items()
        if name not in ("pathways", "costs")
    }
    pathways = {f"AUTOLABEL_PATHWAYS__{name.upper()}" for name in Pathways.model_fields}
    assert listed == fields | pathways | {f"AUTOLABEL_COSTS__{name.upper()}" for name in Costs.model_fields}


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def commands(group: Any, path: str = "autolabel") -> Iterator[tuple[str, Any]]:
    """Every command and sub-command by the words that call it; a group is no command."""
    for name, command in group.commands.items():
        words = f"{path} {name}"
        yield from commands(command, words) if hasattr(command, "commands") else [(words, command)]


def test_every_command_has_help_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for words, command in commands(typer.main.get_command(app)):
        assert command.help, words
        assert words in readme, words


def test_every_reason_is_in_the_readme_in_the_words_that_people_meet() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [reason for reason, text in REASON_TEXT.items() if f"| `{reason}` | {text} |" not in readme] == []


def test_every_seam_has_a_fake() -> None:
    tree = ast.parse((ROOT / "autolabel" / "protocols.py").read_text())
    seams = {
        node.name: {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Protocol" for b in node.bases)
    }
    stand_ins = [cls for module in (fakes, platform_fakes) for cls in vars(module).values() if isinstance(cls, type)]
    for seam, methods in seams.items():
        assert any(methods <= set(dir(cls)) for cls in stand_ins), seam


def test_pins_are_plain_and_name_no_place() -> None:
    pins = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
