"""`autolabel serve` as it is run: wakes become labels, in a process that stays warm; what is killed is finished."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import requests

from autolabel.home import open_looks, open_overview, open_wakes
from autolabel.settings import Settings
from autolabel.wakes import Hint
from sandbox.commands import Command, Label, assert_same_labels
from sandbox.own_project import picture

SECRET = "only-for-tests"
PATIENCE_S = 120.0
ORPHANS_S = 12.0
SPAN_S = 7.0  # a run with loading takes about so long; kills come at any moment of it
SEED = 20261122


def until(has_come: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
    gives_up_s = time.monotonic() + limit_s
    while not (found := has_come()):
        assert time.monotonic() < gives_up_s, "it did not come"
        time.sleep(0.05)
    return found


def command_of(process: psutil.Process) -> str:
    """Nothing of one that is just ending."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@dataclass
class Serving:
    """A running `serve`, and what tests ask of it and of its ledger."""

    push: Command
    process: subprocess.Popen[str]
    port: str
    page_port: str

    @cached_property
    def settings(self) -> Settings:
        return Settings(_env_file=None, home=self.push.home)  # type: ignore[call-arg]

    def wake(self, project: str | None = None, place: str = "stage") -> None:
        with closing(open_wakes(self.settings)) as wakes:
            wakes.request(Hint(self.push.project if project is None else project, place))

    def depth(self) -> int:
        with closing(open_wakes(self.settings)) as wakes:
            return wakes.depth()

    def settled(self, but: int = 0) -> None:
        until(lambda: self.depth() == but)

    def summaries(self) -> list[dict[str, Any]]:
        """Of the runs that have ended, newest first."""
        with closing(open_overview(self.settings)) as overview:
            return [json.loads(run["summary"]) for run in overview.runs(limit=50) if run["summary"]]

    def error(self, project: str | None = None) -> str | None:
        """How the latest look at a project ended."""
        with closing(open_looks(self.settings)) as looks:
            errors = {look["project_hash"]: look["error"] for look in looks.all()}
        return errors.get(self.push.project if project is None else project)

    def in_the_middle_of_a_run(self) -> None:
        """Downloads have begun, which take some seconds."""
        self.push.sandbox.fault("slow", times=12, delay_s=4.0, match={"path_contains": "/blobs/"})
        self.wake()
        until(lambda: self.push.sandbox.faults_met()[-1])

    def child(self) -> psutil.Process | None:
        """The process that runs projects: its own children are the inference process and what decodes."""
        children = psutil.Process(self.process.pid).children()
        return next((child for child in children if "spawn_main" in command_of(child)), None)

    def family(self) -> list[psutil.Process]:
        """Its children and theirs, with multiprocessing's bookkeeper."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def serving(push: Command, **environment: str) -> Iterator[Serving]:
    own = {"AUTOLABEL_PROJECTS": " ".join(push.sandbox.projects.values()), "ENCORD_WEBHOOK_SECRET": SECRET}
    process = subprocess.Popen(
        [sys.executable, "-m", "autolabel", "serve", "--port", "0"],
        env=push.environment(**own | environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        served, page = next(
            found for line in lines if len(found := re.findall(r"http://127\.0\.0\.1:(\d+)", line)) == 2
        )
        yield Serving(push, process, served, page)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def add_picture(push: Command, folder: Path) -> str:
    """Upload one more; the hash of its dataset."""
    client = push.sandbox.client()
    (listed,) = client.get_project(push.project).list_datasets()
    client.get_dataset(str(listed.dataset_hash)).upload_image(picture(folder / "new.png"), title="new.png")
    return str(listed.dataset_hash)


def test_wakes_and_places_become_labels_by_models_that_stay_loaded_for_a_while(
    push: Command, undisturbed: list[Label], tmp_path: Path
) -> None:
    gone = str(uuid4())
    projects = f"{gone} {push.project}"
    with serving(push, AUTOLABEL_PROJECTS=projects, AUTOLABEL_IDLE_S="5") as served:
        served.wake(gone)
        served.wake()
        served.settled(but=1)  # what is gone is asked after again
        assert_same_labels(push.sandbox, undisturbed)
        assert "knows no such thing" in (served.error(gone) or "")
        child = served.child()
        assert child is not None
        held = child.num_fds()
        served.wake("", f"dataset/{add_picture(push, tmp_path)}")
        served.settled(but=1)
        second, first = served.summaries()
        assert (first["labelled"] + first["empty"], second["labelled"] + second["empty"]) == (7, 1)
        assert first["speed"]["stages"]["load"]["busy_s"] > 0
        assert second["speed"]["stages"]["load"]["busy_s"] == 0
        assert served.child() == child
        assert child.num_fds() <= held + 2
        until(lambda: served.child() is None)
        assert served.process.poll() is None


def test_a_serve_that_is_killed_or_told_to_end_leaves_no_orphans_and_the_next_one_finishes(
    push: Command, undisturbed: list[Label]
) -> None:
    moments = random.Random(SEED)
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGKILL, -9)):
        with serving(push, AUTOLABEL_WRITE_ROWS="1") as served:
            served.wake()
            time.sleep(moments.uniform(1.0, SPAN_S))
            family = served.family()
            served.process.send_signal(number)
            assert served.process.wait(35) == code
            _, orphans = psutil.wait_procs(family, ORPHANS_S)
            assert not orphans
    with serving(push) as served:
        served.settled()
    assert_same_labels(push.sandbox, undisturbed)


def test_signals_that_come_again_do_not_break_into_the_giving_back_of_rows(push: Command) -> None:
    with serving(push) as served:
        served.in_the_middle_of_a_run()
        family = served.family()
        while served.process.poll() is None:
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert served.process.returncode == 0
        assert not psutil.wait_procs(family, ORPHANS_S)[1]


def test_a_run_whose_process_dies_stays_owed_and_is_not_tried_again_at_once(
    push: Command, undisturbed: list[Label]
) -> None:
    with serving(push) as served:
        served.in_the_middle_of_a_run()
        child = served.child()
        assert child is not None
        family = child.children()
        child.kill()
        assert until(served.error) == "the process that runs projects ended without an answer (signal 9)"
        _, orphans = psutil.wait_procs(family, ORPHANS_S)
        assert not orphans
        assert (served.depth(), served.child()) == (1, None)
    assert push.push()["exit"] == 0
    assert_same_labels(push.sandbox, undisturbed)


def test_cron_command_line_and_webhook_at_once_label_each_row_once(push: Command, undisturbed: list[Label]) -> None:
    with serving(push) as served:
        served.wake()
        pushes = [push.start("push", "--yes", "--project", push.project) for _ in range(2)]
        assert [process.wait(120) for process in pushes] == [0, 0]
        until(lambda: sum(run["labelled"] + run["empty"] for run in served.summaries()) == 7)
    assert_same_labels(push.sandbox, undisturbed)


def test_the_operators_page_answers_at_a_port_of_its_own_alone(push: Command) -> None:
    with serving(push) as served:
        asked = [requests.get(f"http://127.0.0.1:{port}/", timeout=60) for port in (served.port, served.page_port)]
        numbers = requests.get(f"http://127.0.0.1:{served.port}/metrics", timeout=60).text
    assert [answer.status_code for answer in asked] == [403, 200]
    assert f"-L {served.page_port}:127.0.0.1:{served.page_port}" in asked[0].json()["detail"]
    assert "autolabel_queue_depth 0.0" in numbers


def test_one_serve_runs_for_a_home_and_one_line_says_so(push: Command) -> None:
    own = {"AUTOLABEL_PROJECTS": push.project, "ENCORD_WEBHOOK_SECRET": SECRET}
    with serving(push) as served:
        second = push("serve", "--port", "0", **own)
        taken = push("serve", "--port", served.port, **own | {"AUTOLABEL_HOME": f"{push.home}-other"})
    assert (second.returncode, taken.returncode) == (75, 2)
    assert f"autolabel serve (process {served.process.pid}, since" in second.stderr
    assert "Address already in use" in taken.stderr
    assert [done.stderr.count("\n") for done in (second, taken)] == [1, 1]
