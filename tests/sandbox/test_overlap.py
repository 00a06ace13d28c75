"""Several pushes of one project at the same time: on one device the first does the work, on several they share it."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from sandbox.commands import Command, Label, assert_same_labels, kill_all


def test_a_second_push_on_the_same_device_leaves_the_work_to_the_first(push: Command) -> None:
    """The first waits for a download until the second is over."""
    push.sandbox.fault("slow", delay_s=600.0, match={"path_contains": "/blobs/"})
    first = push.start("push", "--project", push.project, "--yes")
    while first.poll() is None and not push.sandbox.faults_met()[0]:
        time.sleep(0.02)
    done = push("push", "--yes", "--project", push.project)
    kill_all(first)
    print(done.stderr)
    assert done.returncode == 0
    assert f"(process {first.pid}, since " in done.stderr
    assert "does the work; nothing was done here" in done.stderr


def test_pushes_on_several_devices_share_the_rows_and_each_is_labelled_once(
    push: Command, undisturbed: list[Label]
) -> None:
    def on(device: str) -> subprocess.CompletedProcess[str]:
        small = {"AUTOLABEL_WRITE_ROWS": "1", "AUTOLABEL_DOWNLOAD_THREADS": "1", "AUTOLABEL_BATCH_FRAMES": "1"}
        return push("push", "--yes", "--json", "--project", push.project, AUTOLABEL_DEVICE=device, **small)

    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(on, ["cpu", "cpu:0", "cpu:1"]))
    assert [done.returncode for done in ends] == [0, 0, 0], [done.stderr for done in ends]
    results = [json.loads(done.stdout) for done in ends]
    print(*((result["labelled"], result["empty"], result["elsewhere"]) for result in results), sep="\n")
    assert_same_labels(push.sandbox, undisturbed)
    assert push.push()["done_before"] == sum(result["labelled"] + result["empty"] for result in results)
