"""Locks: alone or shared, named after whoever holds them, gone with the process that held them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from autolabel.errors import TransientBusyError, TransientError
from autolabel.locks import Locks, device_lock, hold, hold_for, is_held
from ledgers import open_database, open_locks

Running = AbstractContextManager[None]

HOLDS = "import sys, time; from pathlib import Path; from autolabel.locks import hold\n"
HOLDS += "with hold(Path(sys.argv[1]), 'run r1'): print('held', flush=True); time.sleep(60)"


def test_a_lock_that_is_held_alone_is_refused_naming_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "project.lock"
    with (
        hold(path, "run r1 on cuda:0"),
        pytest.raises(TransientBusyError, match=rf"^run r1 on cuda:0 \(process {os.getpid()}, since .*does the work"),
        hold(path, "run r2", shared=True),
    ):
        pass
    with hold(path, "run r2"):
        pass


def test_a_holder_that_has_not_written_its_name_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "project.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        naming = threading.Timer(0.1, lambda: path.write_text("run r1"))
        naming.start()
        with pytest.raises(TransientBusyError, match=r"^run r1"), hold(path, "run r2"):
            pass
        naming.join()


def test_those_that_share_a_lock_keep_out_whoever_wants_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "project.lock"
    with hold(path, "run r1", shared=True), hold(path, "run r2", shared=True):
        assert not is_held(path)
        with pytest.raises(TransientBusyError, match="run r2"), hold(path, "run r3"):
            pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    assert not is_held(path)
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_held(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_held(path)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Locks, Locks]]:
    """The locks of two processes, on two hosts where the ledger is on a server."""
    open_database(tmp_path).close()
    with closing(open_locks(tmp_path)) as one, closing(open_locks(tmp_path)) as other:
        yield one, other


def test_a_project_held_alone_is_refused_to_all_others_naming_the_holder(hosts: tuple[Locks, Locks]) -> None:
    one, other = hosts
    for shared in (False, True):
        with (
            one.project("p", "run r1"),
            pytest.raises(TransientBusyError, match=rf"^run r1 \(process {os.getpid()}.* does the work"),
            other.project("p", "run r2", shared=shared),
        ):
            pass
    with other.project("p", "run r2"), one.project("another", "run r1"):
        one.check()


def test_those_that_share_a_project_keep_out_whoever_wants_it_alone(hosts: tuple[Locks, Locks]) -> None:
    one, other = hosts
    with one.project("p", "run r1", shared=True):
        with other.project("p", "run r2", shared=True):
            pass
        with pytest.raises(TransientBusyError, match=r"^run r"), other.project("p", "run r3"):
            pass


def test_a_run_beside_one_that_does_the_same_has_nothing_to_do_and_beside_another_comes_later(
    hosts: tuple[Locks, Locks], tmp_path: Path
) -> None:
    one, other = hosts

    def running(locks: Locks, run_id: str, work: str, device: str, *, alone: bool = False) -> Running:
        holder, path = f"{work}, {run_id}", device_lock(tmp_path, "p", device)
        return hold_for(work, locks.project("p", holder, shared=not alone), hold(path, holder))

    with running(one, "r1", "run of recipe 1 to main", "auto"):
        with pytest.raises(TransientBusyError), running(other, "r2", "run of recipe 1 to main", "cuda"):
            pass
        for work in ("run of recipe 2 to main", "publishing of recipe 1 to main"):
            with (
                pytest.raises(TransientError, match="so nothing was done") as found,
                running(other, "r2", work, "cuda:0"),
            ):
                pass
            assert found.value.exit_code == 75
        with running(other, "r2", "run of recipe 1 to main", "cuda:1"):
            pass
        with (
            pytest.raises(TransientError),
            running(other, "r2", "run of recipe 1 to agent-stage", "cuda:1", alone=True),
        ):
            pass
