"""What users install: the wheel, alone in a bare venv, in another folder: the demo, and what runs unattended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_", "PYTHON"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def required_by(asking: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """What a distribution asks for directly, each with its extras."""
    for text in asking.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield wanted.name, frozenset(wanted.extras)


def lend_dependencies(site_packages: Path) -> None:
    """Give a venv all that its autolabel asks for, and what that asks for, as it is installed here: links, no copies.

    To fetch and unpack some gigabytes again would take minutes and show no more: `pip check` tells what is missing.
    """
    (metadata,) = site_packages.glob("autolabel-*.dist-info")
    seen, waiting = set[tuple[str, frozenset[str]]](), list(required_by(Distribution.at(metadata), frozenset()))
    while waiting:
        if (wanted := waiting.pop()) in seen:
            continue
        seen.add(wanted)
        name, extras = wanted
        lent = distribution(name)
        waiting += required_by(lent, extras)
        for top in {file.parts[0] for file in lent.files or () if file.parts[0] != ".."}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(str(lent.locate_file(top)))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def autolabel(wheel: Path) -> Path:
    """The command of a bare venv that has nothing but the wheel."""
    folder = wheel.parent
    venv.create(folder / "venv", with_pip=True)
    pip = folder / "venv" / "bin" / "pip"
    run(pip, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    (site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    lend_dependencies(site_packages)
    run(pip, "check", cwd=folder)
    return folder / "venv" / "bin" / "autolabel"


def test_the_wheel_alone_does_the_demo_twice(autolabel: Path, tmp_path: Path) -> None:
    first = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "35  labelled by this run" in first
    assert "report: " in first
    second = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "42  done by earlier runs" in second
    assert "objects written: 0" in second


def test_what_units_and_crontab_call_answers_in_a_bare_venv(autolabel: Path, tmp_path: Path) -> None:
    deploy = ROOT / "scripts" / "deploy"
    text = "\n".join(
        (deploy / name).read_text() for name in ("autolabel.service", "autolabel-push.service", "crontab")
    )
    calls = re.findall(r"/opt/autolabel/bin/autolabel (.*)", text)
    assert len(calls) == 3
    for call in calls:
        assert f"Usage: autolabel {call.split()[0]}" in run(autolabel, *call.split(), "--help", cwd=tmp_path)


def test_every_template_is_in_the_wheel(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "autolabel").rglob("*.jinja")} <= shipped
