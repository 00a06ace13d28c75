"""The wire fails in every way that it can, on every request that a push makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture_http import expired_urls, http_faults

RUNS = 10
URLS = 60


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_fault_of_the_wire_labels_stand_once_and_peoples_work_as_it_was(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}, {RUNS} runs")
    assert http_faults(tmp_path, seed, RUNS) == []


def test_urls_that_run_out_at_any_moment_cost_no_row(tmp_path: Path) -> None:
    print(f"seed 1, {URLS} URLs")
    assert expired_urls(tmp_path, 1, URLS) == []
