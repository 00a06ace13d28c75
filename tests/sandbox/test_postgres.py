"""Several hosts with one ledger on a Postgres server: the real command, from two homes, against the sandbox."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import ledgers
from postgres_servers import PASSWORD, Server, name_of, needs_server
from sandbox.commands import Command, Label, assert_same_labels, kill_all
from sandbox.conftest import RunningSandbox, Start
from torture import overlap, pushes

pytestmark = needs_server
SMALL = {"AUTOLABEL_WRITE_ROWS": "1", "AUTOLABEL_DOWNLOAD_THREADS": "1", "AUTOLABEL_BATCH_FRAMES": "1"}
SLOW_S, END_S = 3.0, 120.0


@dataclass(frozen=True)
class Host(Command):
    """`autolabel` with a home of its own and a ledger that others share."""

    ledger: str = ""

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**{"AUTOLABEL_LEDGER": self.ledger, **SMALL, **changes})

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A push that goes on beside the test."""
        command = [
            sys.executable,
            "-m",
            "autolabel",
            "push",
            "--project",
            self.project,
            "--yes",
            "--json",
            *arguments,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )


@pytest.fixture(scope="session")
def postgres() -> Server:
    pushes.prepare()
    return ledgers.server()


@pytest.fixture
def url(postgres: Server, tmp_path: Path) -> str:
    """A database of this test's own; the history is checked by its address."""
    address = postgres.database(name_of(tmp_path))
    (tmp_path / "ledger.url").write_text(address)
    return address


@pytest.fixture
def hosts(demo_sandbox: RunningSandbox, tmp_path: Path, url: str) -> tuple[Host, Host]:
    return _hosts(demo_sandbox, tmp_path, url)


def _hosts(sandbox: RunningSandbox, folder: Path, url: str) -> tuple[Host, Host]:
    return Host(sandbox, folder / "a", ledger=url), Host(sandbox, folder / "b", ledger=url)


def ended(push: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = push.communicate(timeout=END_S)
    print(err)
    assert PASSWORD not in out + err
    return push.returncode, out, err


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + END_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def begin_and_wait_for_a_slow_download(host: Host, *arguments: str) -> subprocess.Popen[str]:
    host.sandbox.fault("slow", delay_s=SLOW_S, match={"path_contains": "/blobs/"})
    push = host.begin(*arguments)
    wait_until(lambda: host.sandbox.faults_met() == [1])
    return push


def test_pushes_from_two_hosts_share_the_rows_and_each_is_labelled_once(
    hosts: tuple[Host, Host], undisturbed: list[Label]
) -> None:
    ends = [ended(push) for push in [host.begin() for host in hosts]]
    assert [code for code, *_ in ends] == [0, 0]
    results = [json.loads(out) for _, out, _ in ends]
    print(*((result["labelled"], result["empty"], result["elsewhere"]) for result in results), sep="\n")
    assert_same_labels(hosts[0].sandbox, undisturbed)
    assert hosts[1].push()["done_before"] == sum(result["labelled"] + result["empty"] for result in results)


def test_a_host_that_dies_in_the_middle_leaves_its_rows_to_the_next_run_without_repair(
    hosts: tuple[Host, Host], undisturbed: list[Label]
) -> None:
    dying, other = hosts
    push = dying.begin()
    wait_until(lambda: "labels_copied" in dying.sandbox.writes())
    kill_all(push)
    push.communicate()
    code, out, _ = ended(other.begin())
    result = json.loads(out)
    assert (code, result["pending"], result["elsewhere"]) == (0, 0, {})
    assert_same_labels(other.sandbox, undisturbed)


def test_a_server_that_restarts_in_mid_run_ends_it_and_the_next_run_finishes(
    postgres: Server, hosts: tuple[Host, Host], undisturbed: list[Label]
) -> None:
    push = begin_and_wait_for_a_slow_download(hosts[0])
    postgres.stop()
    postgres.start()
    code, _, err = ended(push)
    assert code == 75
    assert "Nothing is lost; try again later" in err
    assert hosts[1].push()["pending"] == 0
    assert_same_labels(hosts[0].sandbox, undisturbed)


def test_at_the_agent_stage_one_host_writes_and_sends_nothing_once_its_lock_is_lost(
    start: Start, postgres: Server, tmp_path: Path, url: str
) -> None:
    one, other = _hosts(start("demo-agent", 4), tmp_path, url)
    push = begin_and_wait_for_a_slow_download(one)
    code, _, err = ended(other.begin())
    assert (code, f"(process {push.pid} on {socket.gethostname()}, since " in err) == (0, True)
    locks = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    assert postgres.sql(name_of(tmp_path), locks)
    code, _, err = ended(push)
    assert (code, "nothing was sent after that" in err, one.sandbox.writes()) == (75, True, [])
    assert other.push()["pending"] == 0


def test_a_server_that_is_away_is_told_in_one_line_before_anything_is_done(
    demo_sandbox: RunningSandbox, tmp_path: Path
) -> None:
    host = Host(demo_sandbox, tmp_path / "a", ledger=f"postgresql://me:{PASSWORD}@127.0.0.1:1/nowhere")
    done = host("push", "--project", host.project, "--yes")
    assert (done.returncode, len(done.stderr.splitlines()), demo_sandbox.writes()) == (75, 1, [])
    assert "nowhere on 127.0.0.1" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout


def test_schedules_of_hosts_that_overlap_and_die_break_no_promise(postgres: Server) -> None:
    assert overlap.on_hosts(20261122, 4) == []
