"""What users install: the wheel, alone in a bare venv, run from another folder, does the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

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


def test_the_wheel_alone_does_the_demo_twice(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    pip = tmp_path / "venv" / "bin" / "pip"
    run(pip, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    (site_packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    lend_dependencies(site_packages)
    run(pip, "check", cwd=tmp_path)
    autolabel = tmp_path / "venv" / "bin" / "autolabel"
    first = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "35  labelled by this run" in first
    assert "report: " in first
    second = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "42  done by earlier runs" in second
    assert "objects written: 0" in second
