"""Settings of every test: none fails for being slow, which is no fault of the code, and in CI none may skip."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

MAY_SKIP_IN_CI = ("not beside this checkout",)  # data that is no part of the project

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
"""Tests run as many at once as there are cores: threads of small matrix products would only wait for each other."""

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _fail_an_unexpected_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _fail_an_unexpected_skip(report)
    return report


def _fail_an_unexpected_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """CI has every tool: what skips there would go unseen, perhaps for ever."""
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.endswith(MAY_SKIP_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"in CI this may not be skipped ({reason})"
