"""The only wiring: settings in, real adapters out. Everything heavy is imported here, when it is needed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autolabel.answering import load_inference
from autolabel.core.lint import Finding, lint
from autolabel.core.rows import (
    Destination,
    OntologyClass,
    Project,
)
from autolabel.documents import Document, is_path
from autolabel.errors import PermanentUsageError, TransientBusyError, TransientError
from autolabel.home import ledger_on, open_database, open_ledger, open_locks, spooling
from autolabel.locks import Locks, device_lock, hold, hold_for
from autolabel.looks import Looks
from autolabel.models.placement import Placement
from autolabel.operate import Undo, read_run
from autolabel.plan import Options, Plan, make_plan
from autolabel.prompt_map import PromptMap, load_prompt_map, map_entries, render_prompt_map
from autolabel.protocols import FrameReader, Inspector, Retractor, Sink, Source
from autolabel.recipe import Recipe, RecipeConfig, check_calibration, draft_prompts, load_config, plan_prompts
from autolabel.routes import find_agent_stage
from autolabel.settings import Settings, project_hash
from autolabel.stages import Meter
from autolabel.sync import Ports, Run
from autolabel.worker import InferenceProcess

if TYPE_CHECKING:
    from autolabel.album import Album
    from autolabel.report import Page
    from autolabel.review import Review


@dataclass(frozen=True)
class Session:
    """A project opened for one command, with all that a run needs. Made by `open_session`."""

    run_id: str
    project: Project
    recipe: Recipe
    left_to_people: tuple[OntologyClass, ...]
    ports: Ports
    retractor: Retractor
    looks: Looks
    locks: Locks
    settings: Settings

    def options(self, **changes: object) -> Options:
        """The settings' options, with what the command line says on top."""
        base = Options(
            batch_frames=self.settings.batch_frames,
            write_rows=self.settings.write_rows,
            download_threads=self.settings.download_threads,
            holdout=self.settings.holdout,
            agent_stage=self.settings.agent_stage,
            pathways=self.settings.pathways.model_dump(),
            max_objects_a_day=self.settings.max_objects_a_day,
            max_waiting=self.settings.max_waiting,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def plan(self, options: Options) -> Plan:
        return make_plan(self.ports.source, self.ports.ledger, self.project, self.recipe, options)

    @contextmanager
    def running(self, plan: Plan, *, saves: bool = True) -> Iterator[tuple[Run, Album]]:
        """A run, and what it is going to show.

        Runs on several devices share a project's rows. A second one of the same project on one device would only be
        in the way, as any is beside one that may not have others beside it. TransientBusyError is raised then, where
        the other run does this very work, else TransientError. A daily cap is kept by one run at a time.
        """
        work = f"{'run' if saves else 'publishing'} of recipe {self.recipe.id[:8]} to {plan.job.destination}"
        alone = plan.job.destination == Destination.AGENT_STAGE or self.settings.max_objects_a_day is not None
        project, holder = plan.job.project_hash, f"{work}, {self.run_id}"
        with (
            hold_for(
                work,
                self.locks.project(project, holder, shared=not alone),
                hold(device_lock(self.settings.home, project, self.settings.device), holder),
            ),
            new_album(self.settings, self.project.classes, self.run_id) as album,
        ):
            yield Run(plan, self.recipe, self.ports, self.run_id, album, saves=saves), album

    def page(self, run: Run) -> Page:
        """What the run's report says."""
        from autolabel.report import push_page

        return push_page(self.project, self.recipe, run.summary(), run.tally.messages, self.settings.domain)


def new_id() -> str:
    """Of a run: when it began, and enough chance to be its own."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@contextmanager
def new_album(settings: Settings, classes: Sequence[OntologyClass], seed: str) -> Iterator[Album]:
    """An album that rows are added to while the block runs; what it shows stays."""
    from autolabel.album import Album

    with picture_reader(settings) as reader:
        yield Album(classes, seed, reader)


@contextmanager
def picture_reader(settings: Settings) -> Iterator[FrameReader | None]:
    """What decodes frames for a report while the block runs; None where reports show none."""
    from autolabel.decoding import DecodeProcess
    from autolabel.remote.frames import MediaReader

    if not settings.report_images:
        yield None
        return
    with closing(DecodeProcess(MediaReader, settings.max_image_pixels)) as reader:
        yield reader


def read_project(settings: Settings, project: str) -> Project:
    """A project's workflow and ontology; nothing else is read, nothing is opened or written."""
    from autolabel.remote.client import connect
    from autolabel.remote.source import EncordSource

    connection = connect(project_hash(project), settings.domain, ssh_key(settings))
    return EncordSource(connection, settings.max_media_bytes).project()


def write_prompt_map(settings: Settings, project: str, path: Path) -> None:
    """Raises PermanentUsageError where the file exists, cannot be made or could not be named in a recipe."""
    if not is_path(str(path)):
        raise PermanentUsageError(f"a prompt map is a .yaml file, {path} is none; give another --out")
    text = render_prompt_map(read_project(settings, project))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise PermanentUsageError(f"{path} exists and is left as it is; give another --out") from None
    except OSError as error:
        raise PermanentUsageError(f"{path} cannot be written ({error.strerror}); give another --out") from None


def check_ontology(settings: Settings, project: str) -> list[Finding]:
    """What the linter finds in the prompts of a recipe and a project, worst first."""
    from autolabel.models import count_tokens

    config = load_config(settings.config)
    prompts = read_prompt_map(config)
    found = read_project(settings, project)
    plan = draft_prompts(config, prompts, found.classes)
    tokens = count_tokens(config.detector.family, config.detector.weights, plan.prompts)
    return lint(plan, found, map_entries(prompts), tokens)


class Warm:
    """Models that stay loaded from one run to the next: those of the latest recipe. For one thread."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._key: tuple[str, bool] | None = None
        self._process: InferenceProcess | None = None

    def inference(self, settings: Settings, recipe: Recipe, is_reference: bool) -> InferenceProcess:
        """What answers for a recipe; what answered for another one is closed."""
        key = (recipe.id, is_reference)
        if self._process is None or self._key != key:
            self.close()
            self._key, self._process = key, open_inference(settings, recipe, self.meter, is_reference)
        return self._process

    def close(self) -> None:
        """May be called again; the next run loads its models anew."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


@contextmanager
def open_session(
    settings: Settings, project: str, *, warm: Warm | None = None, is_reference: bool = False
) -> Iterator[Session]:
    """Open a project for a push or for a look; `warm` outlives it. Raises what its parts raise."""
    config, uuid = load_config(settings.config), project_hash(project)
    with _opened(settings, uuid, lambda found: make_recipe(config, found), warm, is_reference) as session:
        yield session


@contextmanager
def open_run(settings: Settings, run_id: str) -> Iterator[tuple[Session, frozenset[str]]]:
    """Open the project of an earlier run with its recipe, for publishing; second, the rows it wrote on its branch.

    Raises PermanentUsageError for an unknown run, and for one that did not write to a branch.
    """
    with closing(open_ledger(settings)) as ledger:
        run = read_run(ledger, run_id)
        written = frozenset(receipt["data_hash"] for receipt in ledger.receipts(run_id))
    if run.job.destination != Destination.BRANCH:
        raise PermanentUsageError(f"run {run_id} went to {run.job.destination}, so there is nothing to publish")
    if not written:
        raise PermanentUsageError(f"run {run_id} wrote no rows, so there is nothing to publish")
    with _opened(settings, run.job.project_hash, lambda found: (run.recipe, ())) as session:
        yield session, written


@contextmanager
def open_undo(settings: Settings, run_id: str) -> Iterator[Undo]:
    """Open an earlier run for undoing, alone on its project.

    Raises PermanentUsageError for an unknown run, TransientError while another run holds the project.
    """
    with closing(open_ledger(settings)) as ledger:
        run = read_run(ledger, run_id)
    uuid = run.job.project_hash
    with ExitStack() as stack:
        locks = stack.enter_context(closing(open_locks(settings)))
        try:
            stack.enter_context(locks.project(uuid, f"the undoing of run {run_id}"))
        except TransientBusyError as error:
            raise TransientError(f"{error.holder} holds the project, so nothing was undone") from None
        session = stack.enter_context(_opened(settings, uuid, lambda found: (run.recipe, ()), locks=locks))
        stage = find_agent_stage(session.project, settings.agent_stage)
        yield Undo(run, session.project, session.retractor, session.ports.ledger, stage)


def run_review(settings: Settings, run_id: str, *, all_runs: bool) -> Review:
    """What people made of an earlier run's labels; the platform is only read.

    Raises PermanentUsageError for an unknown run, and for one of which nothing ever came to `main`.
    """
    from autolabel.remote.client import connect
    from autolabel.remote.reviewed import EncordInspector
    from autolabel.remote.source import EncordSource
    from autolabel.review import review

    with closing(open_ledger(settings)) as ledger:
        run = read_run(ledger, run_id)
        connection = connect(run.job.project_hash, settings.domain, ssh_key(settings))
        source: Source = EncordSource(connection, settings.max_media_bytes)
        inspector: Inspector = EncordInspector(connection)
        return review(run, source, inspector, ledger, review_id=f"review-{new_id()}", all_runs=all_runs)


@contextmanager
def _opened(
    settings: Settings,
    uuid: str,
    choose: Callable[[Project], tuple[Recipe, tuple[OntologyClass, ...]]],
    warm: Warm | None = None,
    is_reference: bool = False,
    locks: Locks | None = None,
) -> Iterator[Session]:
    from autolabel.remote.client import connect
    from autolabel.remote.retract import EncordRetractor
    from autolabel.remote.sink import EncordSink
    from autolabel.remote.source import EncordSource
    from autolabel.remote.wire import Line

    with ExitStack() as stack:
        database = stack.enter_context(closing(open_database(settings)))
        connection = connect(uuid, settings.domain, ssh_key(settings), line := Line())
        source: Source = EncordSource(connection, settings.max_media_bytes)
        project = source.project()
        recipe, left = choose(project)
        sink: Sink = EncordSink(connection, recipe.branch, settings.max_row_bytes)
        retractor: Retractor = EncordRetractor(connection)
        models = warm or stack.enter_context(closing(Warm()))
        inference = models.inference(settings, recipe, is_reference)
        locks = locks or stack.enter_context(closing(open_locks(settings)))
        line.guard = locks.check
        stack.enter_context(locks.life(run_id := new_id()))
        spool = stack.enter_context(spooling(settings.home, run_id))
        ledger, looks = ledger_on(settings, database), Looks(database, database.clock)
        ports = Ports(
            source,
            sink,
            ledger,
            inference,
            spool,
            models.meter,
            is_reference,
            calls=line.calls,
        )
        yield Session(run_id, project, recipe, left, ports, retractor, looks, locks, settings)


def open_inference(settings: Settings, recipe: Recipe, meter: Meter, is_reference: bool) -> InferenceProcess:
    where = Placement(settings.device, is_reference=is_reference)
    return InferenceProcess(
        partial(load_inference, recipe, where, settings.max_image_pixels, settings.batch_frames),
        max_bytes=settings.max_worker_bytes,
        meter=meter,
    )


def make_recipe(config: RecipeConfig, project: Project) -> tuple[Recipe, tuple[OntologyClass, ...]]:
    from autolabel.models import weights_digest

    prompts = read_prompt_map(config)
    plan, left = plan_prompts(config, prompts, project.classes)
    segmenter = weights_digest(config.segmenter.weights) if config.segmenter else ""
    recipe = Recipe(config, plan, weights_digest(config.detector.weights), segmenter)
    check_calibration(recipe, prompts)
    return recipe, left


def read_prompt_map(config: RecipeConfig) -> Document[PromptMap] | None:
    return load_prompt_map(config.prompt_map) if config.prompt_map else None


def ssh_key(settings: Settings) -> str:
    from autolabel.remote.client import read_key_file

    if settings.ssh_key_file is not None:
        return read_key_file(settings.ssh_key_file)
    if settings.ssh_key is not None:
        return settings.ssh_key.get_secret_value()
    raise PermanentUsageError(
        "no key for the platform: set ENCORD_SSH_KEY_FILE to a private key (Ed25519) that is registered there"
    )
