"""`autolabel serve` as it is run: wakes become labels, in a process that stays warm; what is killed is finished."""

from __future__ import annotations

import json
import re
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

from autolabel.home import open_looks, open_overview, open_wakes
from autolabel.settings import Settings
from autolabel.wakes import Hint
from sandbox.commands import Command, Label, assert_same_labels
from sandbox.own_project import picture

SECRET = "only-for-tests"
PATIENCE_S = 120.0


def until(has_come: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
    gives_up_s = time.monotonic() + limit_s
    while not (found := has_come()):
        assert time.monotonic() < gives_up_s, "it did not come"
        time.sleep(0.05)
    return found


@dataclass
class Serving:
    """A running `serve`, and what tests ask of it and of its ledger."""

    push: Command
    process: subprocess.Popen[str]
    url: str

    @cached_property
    def settings(self) -> Settings:
        return Settings(_env_file=None, home=self.push.home)  # type: ignore[call-arg]

    def wake(self, project: str | None = None, place: str = "stage") -> None:
        with closing(open_wakes(self.settings)) as wakes:
            wakes.request(Hint(self.push.project if project is None else project, place))

    def depth(self) -> int:
        with closing(open_wakes(self.settings)) as wakes:
            return wakes.depth()

    def settled(self) -> None:
        until(lambda: self.depth() == 0)

    def summaries(self) -> list[dict[str, Any]]:
        """Of the runs, newest first."""
        with closing(open_overview(self.settings)) as overview:
            return [json.loads(run["summary"]) for run in overview.runs(limit=50)]

    def error(self, project: str | None = None) -> str | None:
        """How the latest look at a project ended."""
        with closing(open_looks(self.settings)) as looks:
            errors = {look["project_hash"]: look["error"] for look in looks.all()}
        return errors.get(self.push.project if project is None else project)

    def in_the_middle_of_a_run(self) -> None:
        """A download that takes for ever has begun."""
        self.push.sandbox.fault("slow", delay_s=600.0, match={"path_contains": "/blobs/"})
        self.wake()
        until(lambda: self.push.sandbox.faults_met()[-1])

    def child(self) -> psutil.Process | None:
        """The process that runs projects: its own children are the inference process and what decodes."""
        found = [
            one for one in psutil.Process(self.process.pid).children() if "spawn_main" in " ".join(one.cmdline())
        ]
        return found[0] if found else None


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
        address = next(found for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        yield Serving(push, process, address.group())
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
    with serving(push, AUTOLABEL_PROJECTS=projects, AUTOLABEL_IDLE_S="8") as served:
        served.wake(gone)
        served.wake()
        served.settled()
        assert_same_labels(push.sandbox, undisturbed)
        assert "knows no such thing" in (served.error(gone) or "")
        child = served.child()
        assert child is not None
        held = child.num_fds()
        served.wake("", f"dataset/{add_picture(push, tmp_path)}")
        served.settled()
        second, first = served.summaries()
        assert (first["labelled"] + first["empty"], second["labelled"] + second["empty"]) == (7, 1)
        assert first["speed"]["stages"]["load"]["busy_s"] > 0
        assert second["speed"]["stages"]["load"]["busy_s"] == 0
        assert served.child() == child
        assert child.num_fds() <= held + 2
        until(lambda: served.child() is None)
        assert served.process.poll() is None
