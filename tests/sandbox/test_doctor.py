"""`doctor` as a user runs it: a line for each thing, exit code 1 where one fails, and no effect anywhere."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encord.objects import OntologyStructure, Shape

from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project, picture


def lines(push: Command, code: int, *arguments: str, **environment: str) -> dict[str, str]:
    """What is said, by what it is about."""
    mark = len(push.sandbox.log())
    done = push("doctor", *arguments, **environment)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (code, "")
    assert push.sandbox.writes(mark) == []
    assert not push.home.exists()
    said = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return {about.rstrip(":"): f"{level} {text}" for level, about, text in said}


def test_a_good_project_is_well(push: Command) -> None:
    said = lines(push, 0, "--project", push.project)
    assert said["rights"].startswith("ok the key's owner is admin")
    assert "Annotate -> Review -> Complete" in said["workflow"]
    assert all(said[about].startswith("ok") for about in ("key", "platform", "project", "detector", "ontology"))


def test_without_a_project_the_key_is_tried_all_the_same(push: Command) -> None:
    assert lines(push, 0)["access"].startswith("ok the platform accepts the key")


def test_a_key_that_the_platform_does_not_know_fails(push: Command, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "key").chmod(0o644)
    said = lines(push, 1, ENCORD_SSH_KEY_FILE=str(tmp_path / "key"))
    assert said["access"].startswith("fail the platform does not let this key in")
    assert "chmod 600" in said["key"]


def test_an_ontology_without_a_usable_class_fails(start: Start, tmp_path: Path) -> None:
    push = Command(start("empty"), tmp_path / "home")
    structure = OntologyStructure()
    structure.add_object("Lane", Shape.POLYLINE)
    project = make_project(push.sandbox, structure, [picture(tmp_path / "a.png")])
    assert "no class of the ontology" in lines(push, 1, "--project", project.project_hash)["ontology"]


def test_a_project_that_is_not_there_fails(push: Command) -> None:
    said = lines(push, 1, "--project", "11111111-1111-1111-1111-111111111111")
    assert "Nothing is lost" in said["project"]
