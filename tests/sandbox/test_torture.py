"""The harness at the amounts of each submission, and each seeded bug found; `scripts/torture` goes further."""

from __future__ import annotations

import os
import shutil

import pytest

from torture import pushes
from torture.table import BUGS, TESTS

SEED = 20261121


@pytest.fixture(autouse=True, scope="module")
def _fork_server() -> None:
    """It stays for all tests: what is counted before and after each of them has it both times."""
    pushes.prepare()


TOOLS = {"T2": "strace", "NORMAL sync": "strace", "T17": "wrk"}


def need(name: str) -> None:
    """Some tests need a tool of the system's; CI has it, or fails."""
    tool = TOOLS.get(name)
    if tool and shutil.which(tool) is None and not os.environ.get("CI"):
        pytest.skip(f"{tool} is not installed here")


@pytest.mark.parametrize("name", [name for name, test in TESTS.items() if test.pr])
def test_no_promise_is_broken(name: str) -> None:
    need(name)
    test = TESTS[name]
    violations = test.run(SEED, test.pr)
    print(f"{name}: {test.pr} {test.unit}, {len(violations)} violations (seed {SEED})")
    assert violations == []


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_found(name: str) -> None:
    """A harness that was never seen red proves nothing, nor one that is red for another reason."""
    need(name)
    found, others = BUGS[name].shown(SEED)
    print(f"{name}: {BUGS[name].test} finds {len(found)}, and {len(others)} others", *found[:3], sep="\n")
    assert found, others
