"""What users install: the wheel, alone in a bare venv, run from another folder, does the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

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


def test_the_wheel_alone_does_the_demo_twice(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    pins = ROOT / "scripts" / "constraints.txt"
    run(tmp_path / "venv/bin/pip", "install", "--quiet", "-c", pins, wheel, cwd=tmp_path)
    autolabel = tmp_path / "venv" / "bin" / "autolabel"
    first = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "35  labelled by this run" in first
    assert "report: " in first
    second = run(autolabel, "demo", "--dir", tmp_path / "demo", cwd=tmp_path)
    assert "42  done by earlier runs" in second
    assert "objects written: 0" in second
