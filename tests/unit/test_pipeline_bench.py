"""What the measurement of overlap is made of; the measurement itself runs by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autolabel.stages import Stage, speed_of
from benching.pipeline import CORES, Usage, judged, lines


def test_cpu_and_memory_are_told_by_process() -> None:
    usage = Usage()
    decoder = [sys.executable, "-c", "input()  # autolabel.decoder"]
    with subprocess.Popen(decoder, stdin=subprocess.PIPE) as child:
        usage.sample()
        child.communicate(b"\n")
    assert usage.peak_bytes["decoder"] > 0
    assert usage.cpu_s["decoder"] >= 0


@pytest.mark.parametrize(("cpu_s_a_core", "bound", "ratio"), [(25.0, "CPU", 1.2), (4.0, "network", 2.4)])
def test_the_bound_is_the_longest_wait_or_all_cpu_on_all_cores(cpu_s_a_core: float, bound: str, ratio: float) -> None:
    usage = Usage()
    usage.cpu_s |= dict.fromkeys(("push", "platform"), cpu_s_a_core * CORES / 2)
    speed = speed_of(28.0, {Stage.INFER: 5.0, Stage.DELIVER: 20.0}, 2000, {Stage.DOWNLOAD: 16})
    found = judged(2000, 0.1, speed, 30.0, usage)
    assert (found["least_s"]["network"], found["least_s"]["models"]) == (12.5, 5.0)
    assert (found["bound"], found["ratio"]) == (bound, pytest.approx(ratio))
    assert any(f"({bound}): {ratio:.2f}" in line for line in lines(found))
    assert any(f"on {CORES} cores" in line for line in lines(found))
