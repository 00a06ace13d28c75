"""What a person gets wrong: one line that says what happened, that nothing was lost and what to do; an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encord import Project
from encord.objects import OntologyStructure, Shape

from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project, picture

NOWHERE = "11111111-1111-1111-1111-111111111111"


def line_of(push: Command, code: int, *arguments: str, **environment: str) -> str:
    done = push("push", "--yes", *arguments, **environment)
    print(f"exit {done.returncode}: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_a_key_that_the_platform_does_not_know(push: Command, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "key").write_bytes(key)
    line = line_of(push, 1, "--project", push.project, ENCORD_SSH_KEY_FILE=str(tmp_path / "key"))
    assert "key" in line
    assert "Nothing is lost" in line


def test_a_key_that_may_not_see_the_files_ends_the_push_and_sets_no_row_aside(push: Command) -> None:
    push.sandbox.fault("status", status=403, times=999, match={"path_contains": "get-bulk"})
    done = push("push", "--yes", "--project", push.project)
    print(f"exit {done.returncode}: {done.stdout} {done.stderr}")
    *progress, line = done.stderr.strip().splitlines()  # progress may be there, on a busy machine
    assert (done.returncode, any("error" in one for one in progress)) == (1, False)
    assert "its owner may label in this project and see its files" in line
    push.sandbox.admin("DELETE", "faults")
    assert push.push()["set_aside"] == {}


def test_a_project_that_is_not_there(push: Command) -> None:
    line = line_of(push, 1, "--project", NOWHERE)
    assert NOWHERE in line
    assert "Nothing is lost" in line


def test_a_platform_that_is_down(push: Command) -> None:
    line = line_of(push, 75, "--project", push.project, ENCORD_DOMAIN="http://127.0.0.1:9")
    assert "try again later" in line


def test_weights_that_are_missing(push: Command, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("detector: {family: grounding_dino, weights: /nowhere/at/all}\n")
    assert "/nowhere/at/all" in line_of(push, 1, "--project", push.project, "--config", str(config))


def test_a_dataset_that_is_not_in_the_project(push: Command) -> None:
    assert "'holiday'" in line_of(push, 2, "--project", push.project, "--dataset", "holiday")


def test_an_ontology_without_a_usable_class(start: Start, tmp_path: Path) -> None:
    push = Command(start("empty"), tmp_path / "home")
    structure = OntologyStructure()
    structure.add_object("Lane", Shape.POLYLINE)
    project = make_project(push.sandbox, structure, [picture(tmp_path / "a.png")])
    assert "no class of the ontology" in line_of(push, 2, "--project", project.project_hash)


@pytest.fixture
def shapes_project(start: Start, tmp_path: Path) -> tuple[Command, Project]:
    """One good picture; one that was cut short and one that was replaced by another size, both after their upload."""
    push = Command(start("empty"), tmp_path / "home")
    structure = OntologyStructure()
    structure.add_object("blue syringe", Shape.BOUNDING_BOX)
    files = [picture(tmp_path / name) for name in ("good.png", "cut.png", "other.png")]
    project = make_project(push.sandbox, structure, files)
    blobs = {path.read_bytes(): path for path in (push.sandbox.dir / "blobs").iterdir()}
    good, cut, other = (blobs[path.read_bytes()] for path in files)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    other.write_bytes(picture(tmp_path / "smaller.png", 50, 40).read_bytes())
    assert good.stat().st_size > cut.stat().st_size
    return push, project


def test_corrupt_and_mis_sized_pictures_are_set_aside_and_the_rest_goes_on(
    shapes_project: tuple[Command, Project],
) -> None:
    push, project = shapes_project
    done = push("push", "--yes", "--json", "--project", project.project_hash)
    result = json.loads(done.stdout)
    print(f"exit {done.returncode}: {result['set_aside']} {result['messages']}")
    assert done.returncode == 3
    assert "error" not in done.stderr  # progress may be there, on a busy machine
    assert result["set_aside"] == {"decode": 1, "wrong_size": 1}
    assert result["labelled"] + result["empty"] == 1
    assert any("other.png" in line and "50x40" in line for line in result["messages"])
    again = push("push", "--yes", "--json", "--project", project.project_hash)
    assert (again.returncode, json.loads(again.stdout)["set_aside"]) == (3, {"decode": 1, "wrong_size": 1})


def test_a_file_that_is_never_to_be_had_is_set_aside_in_the_third_run(start: Start, tmp_path: Path) -> None:
    push = Command(start("empty"), tmp_path / "home")
    structure = OntologyStructure()
    structure.add_object("blue syringe", Shape.BOUNDING_BOX)
    project = make_project(push.sandbox, structure, [picture(tmp_path / f"{name}.png") for name in ("good", "lost")])
    lost = project.list_label_rows_v2(data_title_eq="lost.png")[0].backing_item_uuid
    push.sandbox.fault("status", status=410, times=99, match={"path_contains": f"/blobs/{lost}"})
    ends = [push("push", "--yes", "--json", "--project", project.project_hash) for _ in range(3)]
    results = [json.loads(done.stdout) for done in ends]
    print(*(result["messages"] for result in results), sep="\n")
    assert [done.returncode for done in ends] == [75, 75, 3]
    assert [result["pending"] for result in results] == [1, 1, 0]
    assert results[2]["set_aside"] == {"download": 1}
