"""Which SDK the tests marked `sdk` talk through: the pinned one, or with SDK=floor the oldest that is allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import encord
import pytest

ROOT = Path(__file__).parents[2]


def stated(file: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found
    return found.group(1)


@pytest.mark.sdk
def test_the_sdk_is_the_one_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    floor = stated("pyproject.toml", r'"encord>=([\d.]+)"')
    pinned = stated("scripts/constraints.txt", r"^encord==([\d.]+)$")
    with capsys.disabled():
        print(f"\nSDK: encord {encord.__version__} (oldest allowed {floor}, pinned {pinned})")
    assert encord.__version__ == (floor if os.environ.get("SDK") == "floor" else pinned)
