"""The process that runs projects for `serve`: it keeps its models from one run to the next."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import closing, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from autolabel.bootstrap import Warm, ssh_key
from autolabel.errors import AutolabelError, Interrupted, TransientBusyError
from autolabel.home import open_looks
from autolabel.logs import get_logger, install, keep
from autolabel.looks import Look
from autolabel.running import EXIT_LATER, Caller, Ended, run_once
from autolabel.service.dispatch import Outcome, Verdict
from autolabel.settings import Settings
from autolabel.wakes import Hint

logger = get_logger(__name__)

CALLER = Caller("webhook")
WATCH_S = 0.2
SLICE_MINUTES = 15.0
"""A run goes on after the other projects' where AUTOLABEL_MAX_MINUTES sets no time."""
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 10.0
ORPHAN_S = 5.0
"""How long a run may take to give its rows back once there is no `serve` any more."""


class SyncChild:
    """A `Runner` in a spawned process, started at the first hint, and again after its end or death.

    `settings`: those of its runs.
    """

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        own = {"webhook_secret": None, "bucket_secret": None, "max_minutes": settings.max_minutes or SLICE_MINUTES}
        self.settings = settings.model_copy(update=own)
        self._stopping = stopping
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None else None

    def ask(self, hint: Hint) -> Outcome:
        """See `Runner`. A death, also one that comes of no room for a process, leaves the hint for later."""
        try:
            process, pipe = self._living()
            pipe.send(hint)
            return self._answer(process, pipe)
        except (EOFError, OSError) as error:
            outcome = Outcome(Verdict.LATER, f"the process that runs projects {self._how_it_ended(error)}")
            self._note(hint, outcome.message)
            return outcome

    def _living(self) -> tuple[SpawnProcess, Connection]:
        if self._process is not None and not self._process.is_alive():
            self.close()
        if self._process is None or self._pipe is None:
            self._process, self._pipe = _start(self.settings)
        return self._process, self._pipe

    def _answer(self, process: SpawnProcess, pipe: Connection) -> Outcome:
        while not wait([pipe, process.sentinel], WATCH_S):
            if self._stopping.is_set():
                raise Interrupted
        if not pipe.poll():
            raise EOFError
        outcome: Outcome = pipe.recv()
        return outcome

    def _how_it_ended(self, error: Exception) -> str:
        process = self._process
        if process is None:
            return f"could not be started ({error})"
        process.join(STOP_TIMEOUT_S)
        code = process.exitcode
        self.close()
        return (
            f"ended without an answer ({f'signal {-code}' if code is not None and code < 0 else f'exit code {code}'})"
        )

    def _note(self, hint: Hint, message: str) -> None:
        """A run that died could not say so."""
        if hint.project_hash:
            with suppress(AutolabelError), closing(open_looks(self.settings)) as looks:
                looks.note(Look(hint.project_hash, CALLER.name, error=message))

    def close(self) -> None:
        """End the process: a run that is under way gives its rows back first, if that does not take too long."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is None or pipe is None:
            return
        process.terminate()
        process.join(STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join(KILL_TIMEOUT_S)
        pipe.close()
        if not process.is_alive():  # a driver that hangs can keep it, and must not keep us
            process.close()


def _start(settings: Settings) -> tuple[SpawnProcess, Connection]:
    """As `worker` starts its own, but not as a daemon: this one has children."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_live, args=(settings, theirs), name="sync")
    resource_tracker.ensure_running()  # else the first start does so, which unblocks what is blocked here
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for `serve` to act upon
    try:
        process.start()
    except OSError:
        pipe.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        theirs.close()
    return process, pipe


def _live(settings: Settings, pipe: Connection) -> None:
    """The child's life: answer hints until it is told to end, or the parent is gone."""
    install(logging.INFO)
    keep(settings.home)
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(Interrupted, EOFError, BrokenPipeError, ConnectionResetError), closing(Warm()) as warm:
        threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
        while True:
            hint: Hint = pipe.recv()
            pipe.send(_answered(settings, hint, warm))


def _interrupt(number: int, _frame: object) -> None:
    """Once, though a service manager may tell all processes: a second must not break into the giving back of rows."""
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted


def _follow_parent() -> None:
    """However the parent ends, also by kill -9: nothing of its own goes on for more than a few seconds."""
    parent = multiprocessing.parent_process()
    if parent is None:
        raise AssertionError("this runs in a child")
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_S)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


def _answered(settings: Settings, hint: Hint, warm: Warm) -> Outcome:
    from autolabel.remote.holders import find_holders

    try:
        if hint.project_hash:
            return outcome_of(run_once(settings, hint.project_hash, CALLER, warm=warm))
        found = find_holders(settings.domain, ssh_key(settings), settings.projects, hint.place)
        return Outcome(Verdict.DONE, projects=found)
    except AutolabelError as error:  # a permanent one too: an operator may be mending what it tells of
        return Outcome(Verdict.BUSY if is_busy(error) else Verdict.LATER, str(error))
    except Exception:
        logger.exception("this is a bug; nothing is lost, and the run is tried again in a fresh process")
        sys.exit(1)


def is_busy(error: AutolabelError) -> bool:
    """Whether another run, or a command that does something else, holds the project: see `hold_for`."""
    return any(isinstance(one, TransientBusyError) for one in (error, error.__context__))


def outcome_of(ended: Ended) -> Outcome:
    """A run whose time is up before it got anywhere is not begun anew at once: the next would fare no better."""
    summary = ended.summary or {}
    if "max_minutes" in summary.get("held_back", {}):
        got_on = any(summary[count] for count in ("labelled", "empty", "inferred_frames"))
        return Outcome(Verdict.AGAIN if got_on else Verdict.LATER, f"run {summary['run']}: its time was up")
    if ended.exit_code == EXIT_LATER:
        return Outcome(Verdict.LATER, f"run {summary['run']}: {summary['pending']} label rows wait for the next one")
    return Outcome(Verdict.DONE, f"run {summary['run']}" if summary else "nothing to do")
