"""`ontology init` and `ontology check` against the demo project: what they print, and that they only read."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.commands import Command


def recipe_with(folder: Path, prompt_map: str) -> str:
    """A recipe beside a map of that text."""
    (folder / "tools.yaml").write_text(prompt_map)
    recipe = folder / "mine.yaml"
    recipe.write_text("detector: {family: grounding_dino, weights: 'bundled:detector'}\nprompt_map: tools.yaml\n")
    return str(recipe)


def test_a_map_is_written_once_and_fits_the_project_as_it_is(push: Command, tmp_path: Path) -> None:
    out = tmp_path / "prompts.yaml"
    assert push("ontology", "init", "--project", push.project, "--out", str(out)).returncode == 0
    text = out.read_text()
    assert "  steel scissors:\n    prompts: [steel scissors]\n" in text
    assert "Suture (polyline)" in text

    again = push("ontology", "init", "--project", push.project, "--out", str(out))
    assert (again.returncode, again.stderr) == (
        2,
        f"error: {out} exists and is left as it is; give another --out\n",
    )

    done = push("ontology", "check", "--project", push.project, "--config", recipe_with(tmp_path, text))
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("0 errors, 0 warnings, 4 notes\n")
    assert out.read_text() == text
    assert push.sandbox.writes() == []


def test_a_map_that_does_not_fit_ends_with_exit_code_2_and_one_line_a_finding(push: Command, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, "classes:\n  blue syrinj: {}\n  white gauze: {prompts: [other gauze]}\n")

    done = push("ontology", "check", "--project", push.project, "--config", recipe)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "1 error, 1 warning, 9 notes"
    place = f"{tmp_path / 'tools.yaml'}"
    assert lines[0] == (
        f"error    {place}:2: classes.blue syrinj: the ontology has no such class; did you mean 'blue syringe'?"
    )
    assert lines[1].startswith(f"warning  {place}:3: classes.white gauze: 'other gauze' names what is left over")
    as_json = push("ontology", "check", "--project", push.project, "--config", recipe, "--json")
    assert as_json.returncode == 2
    assert len(json.loads(as_json.stdout)["findings"]) == len(lines) - 1
    refused = push("push", "--project", push.project, "--yes", "--config", recipe)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"error: {lines[0].removeprefix('error    ')} (nothing was changed)\n",
    )
    assert push.sandbox.writes() == []
