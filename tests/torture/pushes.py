"""A push in a child process, wired by the product's own bootstrap, with an inference that needs no models.

The children come from multiprocessing's fork server, which has imported everything: a push costs a third of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import psutil
import sqlalchemy as sa
from numpy.typing import NDArray

from autolabel.bootstrap import Session, open_session
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import ClassPlan, needs_mask
from autolabel.errors import AutolabelError
from autolabel.home import lives, open_database
from autolabel.ledger import Ledger
from autolabel.protocols import Clip, ClipAnswer, Pending
from autolabel.settings import Settings
from torture import points

PRELOAD = (
    "autolabel.bootstrap", "autolabel.album", "autolabel.remote.client", "autolabel.remote.frames",
    "autolabel.remote.sink", "autolabel.remote.source", "autolabel.models", "supervision", "trackers",
    "autolabel.advisory", "torture.doubles", "torture.receivers",
)  # fmt: skip
CLASSES = 4  # of the ontology: two kinds of boxes, a rotated one, a polygon
VIDEO_FPS = 10.0


@dataclass(frozen=True)
class Job:
    """What a child is to push, and what happens to it on the way.

    - `points`: (name, which time it is reached) -> what is done there; see `points.act`.
    - `trace`: a file that gets the name of every point reached.
    - `poison`: a data hash at whose sight the process dies.
    - `largest_file_bytes`, `busy_timeout_ms`, `is_on_network`: trouble with the ledger's file.
    - `ledger`: the address of one that several hosts share; else it is a file in `home`.
    - `double`: the name of a part that is broken on purpose; see `doubles`.
    """

    domain: str
    ssh_key_file: str
    project: str
    home: str
    config: str
    destination: str = "main"
    points: tuple[points.Order, ...] = ()
    trace: str | None = None
    double: str | None = None
    write_rows: int = 2
    lease_s: float = 900.0
    device: str = "auto"
    retry_failed: bool = False
    poison: str | None = None
    largest_file_bytes: int | None = None
    busy_timeout_ms: int | None = None
    is_on_network: bool = False
    ledger: str | None = None


class HashedInference:
    """Finds on each picture what its data hash says, always the same; every eighth row has nothing on it."""

    def __init__(self, classes: Sequence[ClassPlan], poison: str | None = None) -> None:
        self._classes, self._poison = classes[:CLASSES], poison

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        points.reach("before inference")
        if any(clip.data_hash == self._poison for clip in clips):
            points.act("kill")
        return [[self._frame(clip, index) for index in clip.frame_indices] for clip in clips]

    def _frame(self, clip: Clip, index: int) -> FrameLabels:
        dice = random.Random(f"{clip.data_hash}{'' if clip.video_frames else index}")
        found = [self._detection(dice, place) for place in range(dice.randint(0, 4))]
        return FrameLabels(index, clip.width_px, clip.height_px, tuple(found), {}, "digest")

    def _detection(self, dice: random.Random, place: int) -> Detection:
        cls = self._classes[dice.randrange(len(self._classes))]
        left, top = 3 + 14 * place, dice.randint(2, 20)
        box = (float(left), float(top), left + 10.0, top + 12.0)
        mask = mask_from_window(np.ones((12, 10), bool), left, top, 0.9) if needs_mask(cls.shape) else None
        return Detection(cls.feature_hash, cls.prompts[0], round(dice.uniform(0.5, 1.0), 3), box, mask)

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return np.arange(clip.video_frames or 0) / VIDEO_FPS

    def close(self) -> None:
        pass


def start(job: Job) -> ForkServerProcess:
    return forked(_child, job)


def forked(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=target, args=arguments, daemon=True)
    with _without_main():
        process.start()
    return process


@contextmanager
def _without_main() -> Iterator[None]:
    """A child would run the program again that starts it (pytest, say); it needs nothing of it."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@cache
def prepare() -> None:
    """Start the fork server with all that a push imports."""
    folders = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads should not be forked
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    process = context.Process(target=_nothing)
    with _without_main():
        process.start()
    process.join()


def _nothing() -> None:
    pass


def finish(process: ForkServerProcess, limit_s: float = 120.0) -> int:
    """Wait for a push and tell its exit code; one that hangs is killed, and that is an error."""
    process.join(limit_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a push hung for {limit_s} s")
    code = process.exitcode
    process.close()
    return code


def run(job: Job) -> int:
    return finish(start(job))


def _child(job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    points.arm(job.points, Path(job.trace) if job.trace else None)
    _give_trouble(job)
    try:
        sys.exit(push(job))
    except AutolabelError as error:
        sys.exit(error.exit_code)


def _give_trouble(job: Job) -> None:
    if job.largest_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.largest_file_bytes, resource.RLIM_INFINITY))
    if job.busy_timeout_ms is not None:
        pragma = f"PRAGMA busy_timeout = {job.busy_timeout_ms}"
        sa.event.listen(sa.engine.Engine, "connect", lambda raw, _: raw.execute(pragma).close())
    if job.is_on_network:
        mounts = [SimpleNamespace(mountpoint=str(Path(job.home).parent), fstype="nfs4")]
        psutil.disk_partitions = lambda all=False: mounts  # noqa: A006


def push(job: Job) -> int:
    """As `autolabel push --yes`, less what it prints."""
    from torture import doubles

    with ExitStack() as stack:
        session = stack.enter_context(open_session(settings_of(job), job.project))
        ledger = stack.enter_context(closing(ledger_of(job)))
        lookout = HashedInference(session.recipe.plan.classes, job.poison)
        session = replace(session, ports=replace(session.ports, inference=lookout, ledger=ledger))
        return _execute(doubles.broken(session, job.double, partial(ledger_of, job)), job)


def ledger_of(job: Job, kind: type[Ledger] = Ledger) -> Ledger:
    """As bootstrap opens it, but with the job's lease."""
    settings = settings_of(job)
    database = open_database(settings)
    return kind(database, database.clock, lives(settings, database), job.lease_s)


def _execute(session: Session, job: Job) -> int:
    options = session.options(destination=job.destination, retry_failed=job.retry_failed)
    plan = session.plan(options)
    with session.running(plan) as (run, _):
        tally = run.execute(options, lambda tally: None)
    return 3 if tally.set_aside or plan.set_aside else 0


def settings_of(job: Job) -> Settings:
    platform = {"ENCORD_DOMAIN": job.domain, "ENCORD_SSH_KEY_FILE": job.ssh_key_file}
    own = {
        "home": job.home,
        "config": job.config,
        "device": job.device,
        "batch_frames": 4,
        "write_rows": job.write_rows,
        "ledger": job.ledger,
    }
    return Settings(_env_file=None, report_images=False, **platform, **own)  # type: ignore[arg-type]
