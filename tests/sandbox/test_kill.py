"""kill -9 at random moments, of the push and of its inference process: the next run ends as if undisturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import psutil
import pytest

from sandbox.commands import Command, Label, assert_same_labels, kill_all

# One push of the 12-frame demo takes about 7 s here, most of it loading; moments are spread over all of it.
# T1r of the harness has the larger amounts.
KILLS = 8
SPAN_S = 7.0
SEED = 20261121


def inference_process(parent: int) -> psutil.Process | None:
    """The spawned child that holds the models, not multiprocessing's bookkeeper."""
    try:
        children = psutil.Process(parent).children()
        return next((child for child in children if "spawn_main" in " ".join(child.cmdline())), None)
    except psutil.NoSuchProcess:
        return None


def test_a_push_killed_again_and_again_ends_with_the_same_labels(push: Command, undisturbed: list[Label]) -> None:
    moments = random.Random(SEED)
    for _ in range(KILLS):
        process = push.start("push", "--project", push.project, "--yes", "--limit", str(moments.randint(1, 12)))
        time.sleep(moments.uniform(0.5, SPAN_S))
        kill_all(process)
    push.push()
    result = push.push("--retry-failed")  # a row under which many runs died may be set aside as what kills them
    assert (result["exit"], result["pending"], result["set_aside"]) == (0, 0, {})
    assert_same_labels(push.sandbox, undisturbed)


def test_pushes_killed_in_the_middle_of_their_writes_end_with_the_same_labels(
    push: Command, undisturbed: list[Label]
) -> None:
    """Every remote write of one row is slowed down, and the push is killed while it is under way."""
    writes = (
        {"query_type": "labelrow", "query_method": "PUT"},
        {"query_type": "labelrow", "query_method": "POST"},
        {"path_contains": "copy-branch"},
    )
    for match in writes:
        push.sandbox.fault("slow", delay_s=1.0, match=match)
        process = push.start("push", "--project", push.project, "--yes", "--limit", "3")
        while process.poll() is None and not push.sandbox.faults_met()[-1]:
            time.sleep(0.02)
        time.sleep(0.5)
        kill_all(process)
    assert push.sandbox.faults_met() == [1, 1, 1]
    result = push.push()
    assert (result["exit"], result["pending"]) == (0, 0)
    assert_same_labels(push.sandbox, undisturbed)


@pytest.mark.parametrize("seed", range(3))
def test_a_push_whose_inference_process_is_killed_ends_with_the_same_labels(
    push: Command, undisturbed: list[Label], seed: int
) -> None:
    moments, killed = random.Random(seed), 0
    process = push.start("push", "--project", push.project, "--yes")
    while process.poll() is None and killed < 5:
        if child := inference_process(process.pid):
            # The first death comes while it loads, so that there is one; the others come at any moment.
            time.sleep(moments.uniform(0.0, 7.0 if killed else 1.0))
            with suppress(psutil.NoSuchProcess):
                child.kill()
                killed += 1
        time.sleep(0.05)
    process.wait(600)
    print(f"inference process killed {killed} times")
    result = push.push()
    assert (result["exit"], result["pending"], result["set_aside"]) == (0, 0, {})
    assert killed
    assert_same_labels(push.sandbox, undisturbed)


def decoding_process(parent: int) -> psutil.Process | None:
    """The child of that process, the push or its inference process, which decodes."""
    children = psutil.Process(parent).children()
    return next((child for child in children if "autolabel.decoder" in " ".join(child.cmdline())), None)


@pytest.mark.parametrize("killed", ["push", "inference process"])
def test_the_inference_process_and_what_decodes_for_it_die_with_their_parents(push: Command, killed: str) -> None:
    process = push.start("push", "--project", push.project, "--yes")
    while (child := inference_process(process.pid)) is None or (decoder := decoding_process(child.pid)) is None:
        time.sleep(0.02)
    os.kill(process.pid if killed == "push" else child.pid, signal.SIGKILL)
    decoder.wait(timeout=60)
    if killed == "push":
        process.wait()
        child.wait(timeout=60)
    else:
        kill_all(process)
