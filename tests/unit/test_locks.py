"""Locks: alone or shared, named after whoever holds them, gone with the process that held them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autolabel.errors import TransientBusyError
from autolabel.locks import hold, is_held

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
