"""In CI a test that skips for want of a tool fails, so that nobody takes its silence for a pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

def test_tool():
    pytest.skip("wrk is not installed here")

@pytest.fixture
def tool():
    pytest.skip("strace is not installed here")

def test_fixture(tool): ...

@pytest.mark.skipif(True, reason="the photos are not beside this checkout")
def test_photos(): ...

@pytest.mark.xfail(strict=True)
def test_known():
    assert False
"""
MODULE = "import pytest\npytest.skip('chromium is not installed here', allow_module_level=True)"


def outcome(folder: Path, ci: str) -> tuple[int, str]:
    copy(CONFTEST, folder)
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    env = os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, folder], cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_in_ci_an_unexpected_skip_fails_with_its_reason_but_not_that_of_data_left_out(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, "1")
    assert code == 1
    assert "1 failed, 1 skipped, 1 xfailed, 2 errors" in output
    for tool in ("wrk", "strace", "chromium"):
        assert f"in CI this may not be skipped (Skipped: {tool} is not installed here)" in output


def test_elsewhere_a_test_without_its_tool_is_skipped(tmp_path: Path) -> None:
    code, output = outcome(tmp_path, "")
    assert code == 0
    assert "4 skipped, 1 xfailed" in output
