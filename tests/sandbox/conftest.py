"""A sandbox in its own process for a test, and the real SDK to talk to it with."""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import psutil
import pytest
import requests
from encord import EncordUserClient, Project
from encord.http.constants import RequestsSettings
from encord.objects.ontology_labels_impl import LabelRowV2

import history
from autolabel.sandbox import running
from sandbox.commands import Command, Label, ours

DEMO = "Demo: surgical tools"
HELPERS = ("from multiprocessing.resource_tracker", "from multiprocessing.forkserver")
LONG = {
    *("test_torture.py", "test_torture_media.py", "test_kill.py", "test_wheel.py"),
    *("test_poison.py", "test_human_races.py", "test_http_faults.py"),
}
FILES_MARGIN = 24  # connections that the SDK leaves to the garbage collector


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two workers begin with a half each: long tests come first in both, so that short ones even out the end."""
    long = [item for item in items if item.path.name in LONG]
    short = [item for item in items if item.path.name not in LONG]
    half = len(short) // 2
    items[:] = long[::2] + short[:half] + long[1::2] + short[half:]


@dataclass(frozen=True)
class RunningSandbox:
    """What sandbox.json says of a running sandbox, and what tests do with it."""

    dir: Path
    domain: str
    ssh_key_file: str
    projects: dict[str, str]
    pid: int

    def admin(self, method: str, path: str, json: Any = None) -> Any:
        answer = requests.request(method, f"{self.domain}/admin/{path}", json=json, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def client(self, max_retries: int = 0) -> EncordUserClient:
        return EncordUserClient.create_with_ssh_private_key(
            ssh_private_key_path=self.ssh_key_file,
            domain=self.domain,
            requests_settings=RequestsSettings(max_retries=max_retries, backoff_factor=0.01),
        )

    def project(self, max_retries: int = 0) -> Project:
        (project_hash,) = self.projects.values()
        return self.client(max_retries).get_project(project_hash)

    def human(self, action: str, row: LabelRowV2, **wanted: Any) -> Any:
        (project_hash,) = self.projects.values()
        person = {"action": action, "project": project_hash, "data_hash": row.data_hash}
        return self.admin("POST", "human", person | wanted)

    def fault(self, kind: str, times: int = 1, **wanted: Any) -> None:
        self.admin("POST", "faults", [{"kind": kind, "times": times, **wanted}])

    def faults_met(self) -> list[int]:
        return [fault["met"] for fault in self.admin("GET", "faults")]

    def rows(self) -> dict[str, dict[str, Any]]:
        """What is stored: branch -> data hash -> label row."""
        (project_hash,) = self.projects.values()
        stored: dict[str, dict[str, Any]] = self.admin("GET", f"rows?project={project_hash}")
        return stored

    def log(self, since: int = 0) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.admin("GET", f"log?since={since}")
        return entries

    def writes(self, since: int = 0) -> list[str]:
        """The effects of API requests, in order: no entry means that nothing was written."""
        entries = self.log(since)
        return [e["effect"] for e in entries if e["kind"] == "request" and e["effect"]]


Start = Callable[..., RunningSandbox]


@pytest.fixture(autouse=True)
def _history_holds(tmp_path: Path) -> Iterator[None]:
    """After every test: what its sandboxes logged and its ledgers say breaks no promise (see `history`)."""
    before = _resources()
    yield
    found = history.left_behind(before, _resources(), {"files": FILES_MARGIN})
    if found and gc.collect():  # 16 download threads leave as many connections to it
        found = history.left_behind(before, _resources(), {"files": FILES_MARGIN})
    found += history.check_folder(tmp_path)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def _resources() -> dict[str, int]:
    """What this process holds, less multiprocessing's own helpers, which stay once they are there."""
    me = psutil.Process()
    children = [child for child in me.children() if not _is_helper(child)]
    return {"files": me.num_fds(), "children": len(children)}


def _is_helper(child: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(part.startswith(HELPERS) for part in child.cmdline())
    return True


@pytest.fixture(scope="session")
def demo_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a demo project, drawn once a session: starting from a copy is quicker."""
    directory = tmp_path_factory.mktemp("demo")
    with running(directory, scenario="demo", frames=12):
        return directory


@pytest.fixture
def sandbox_dir(tmp_path: Path) -> Path:
    return tmp_path / "sandbox"


@pytest.fixture
def start(sandbox_dir: Path) -> Iterator[Start]:
    """Start a sandbox in `sandbox_dir`; all that were started end with the test."""
    with ExitStack() as stack:

        def start_one(scenario: str | None = None, frames: int | None = None) -> RunningSandbox:
            info = stack.enter_context(running(sandbox_dir, scenario=scenario, frames=frames))
            return RunningSandbox(dir=sandbox_dir, **info)

        yield start_one


@pytest.fixture
def demo_sandbox(start: Start, demo_state: Path, sandbox_dir: Path) -> RunningSandbox:
    """The demo project with 12 frames; people have worked on numbers 1, 3, 4, 6 and 8."""
    copytree(demo_state, sandbox_dir)
    return start()


@pytest.fixture
def project(demo_sandbox: RunningSandbox) -> Project:
    return demo_sandbox.project()


@pytest.fixture
def push(demo_sandbox: RunningSandbox, tmp_path: Path) -> Command:
    """`autolabel` against the demo project, with a home of its own."""
    return Command(demo_sandbox, tmp_path / "home")


@pytest.fixture(scope="session")
def undisturbed(demo_state: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Label]:
    """The labels of a push that nothing disturbs; every other push of the same rows must end with these."""
    folder = tmp_path_factory.mktemp("undisturbed")
    copytree(demo_state, folder / "sandbox")
    with running(folder / "sandbox") as info:
        sandbox = RunningSandbox(dir=folder / "sandbox", **info)
        Command(sandbox, folder / "home").push()
        return ours(sandbox)


@pytest.fixture(scope="session")
def pushed_state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a `sandbox` whose project was pushed to main from the `home` beside it, and the run's id."""
    folder = tmp_path_factory.mktemp("pushed")
    with running(folder / "sandbox", scenario="demo-agent", frames=10) as info:
        command = Command(RunningSandbox(dir=folder / "sandbox", **info), folder / "home")
        return folder, command.push("--to", "main")["run"]
