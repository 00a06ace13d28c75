"""Tries one by one what a push needs, and says of each thing that it is well or what to do. Reads only."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from pydantic import SecretStr

from autolabel.bootstrap import check_ontology, read_project, ssh_key
from autolabel.core.endings import WORRYING_RUNS, worrying
from autolabel.core.lint import Finding, Severity
from autolabel.core.rows import Project
from autolabel.errors import AutolabelError, PermanentNotFoundError, PermanentUsageError
from autolabel.home import open_overview
from autolabel.recipe import ModelChoice, load_config
from autolabel.routes import choose_pathways, find_agent_stage
from autolabel.service.secrets import KeyRing
from autolabel.service.signatures import ENCORD, STANDARD, Scheme
from autolabel.settings import Settings, project_hash
from autolabel.sync import GUARD_ROWS

NO_PROJECT = "00000000-0000-0000-0000-000000000000"
SKEW_WARN_S, SKEW_FAIL_S = 30, 300  # signed messages of the platform are refused after 300 s
USUAL_MEDIA_BYTES = 50_000_000
RUNS_LOOKED_AT = 200
LIBRARIES = ("torch", "transformers", "encord", "segment-anything")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing that was tried; the text of what is not well says what to do."""

    level: Level
    about: str
    text: str


def diagnose(settings: Settings, project: str | None) -> Iterator[Check]:
    """All checks in order; those of the project only where one is given and the platform answers."""
    key = _guarded("key", lambda: [check_key(settings)])
    yield from key
    yield _ok("libraries", ", ".join(f"{name} {version(name)}" for name in LIBRARIES))
    yield from _guarded("ledger", lambda: [check_ledger(settings)])
    yield from _guarded("runs", lambda: check_runs(settings, project))
    yield from check_unattended(settings)
    yield from _guarded("models", lambda: check_models(settings))
    yield from _guarded("device", lambda: [check_device(settings)])
    yield from _guarded("disk", lambda: [check_disk(settings)])
    answers = _guarded("platform", lambda: [check_clock(settings.domain)])
    yield from answers
    if not any(check.level == Level.FAIL for check in (*key, *answers)):
        yield from _guarded("project" if project else "access", lambda: check_project(settings, project))


def _guarded(about: str, check: Callable[[], Iterable[Check]]) -> list[Check]:
    """What this program raises on purpose says what happened and what to do: that is a failed check."""
    try:
        return list(check())
    except AutolabelError as error:
        return [Check(Level.FAIL, about, f"{error}. {error.advice}" if error.advice else str(error))]
    except OSError as error:
        return [Check(Level.FAIL, about, f"{error.filename}: {error.strerror}; set AUTOLABEL_HOME to a local folder")]


def _ok(about: str, text: str) -> Check:
    return Check(Level.OK, about, text)


def check_key(settings: Settings) -> Check:
    """Present, a key of the right kind, and nobody else's to read. Raises PermanentUsageError."""
    from autolabel.remote.client import make_client

    make_client(settings.domain, ssh_key(settings))
    path = settings.ssh_key_file
    if path is None:
        return _ok("key", "Ed25519, from ENCORD_SSH_KEY")
    mode = path.expanduser().stat().st_mode & 0o777
    if mode & 0o077:
        return Check(Level.WARN, "key", f"{path} has mode {mode:o}, so others can read it: chmod 600 {path}")
    return _ok("key", f"Ed25519, {path}, mode {mode:o}")


def check_ledger(settings: Settings) -> Check:
    """Where it is, and that it can be opened. Raises PermanentLedgerError, TransientLedgerError."""
    if settings.ledger is not None:
        from autolabel.postgres import PostgresServer

        open_overview(settings).close()
        return _ok("ledger", f"Postgres, database {PostgresServer(settings.ledger)}")
    path = settings.home / "ledger.sqlite"
    if not path.exists():
        return _ok("ledger", f"SQLite, {path}, made by the first run")
    open_overview(settings).close()
    return _ok("ledger", f"SQLite, {path}, {path.stat().st_size / 1e6:.1f} MB")


def check_runs(settings: Settings, project: str | None) -> Iterator[Check]:
    """The project given, else those of the settings, else all of the ledger. Raises as `check_ledger` does."""
    if settings.ledger is None and not (settings.home / "ledger.sqlite").exists():
        yield _ok("runs", "none yet")
        return
    with closing(open_overview(settings)) as overview:
        titles = overview.titles()
        projects = [project_hash(project)] if project else settings.projects or list(titles)
        found = {key: worrying(overview.endings(key, RUNS_LOOKED_AT)) for key in projects}
    for key, runs in found.items():
        if runs:
            why = "; ".join(f"{run.run_id} ({run.why})" for run in runs)
            text = f"{titles.get(key, key)}: the last {len(runs)} runs with rows to label wrote none of them: {why}"
            yield Check(Level.FAIL, "runs", text)
    if not any(found.values()):
        text = f"no project has {WORRYING_RUNS} in a row that had rows to label and wrote none"
        yield _ok("runs", f"{text} ({len(projects)} looked at)")


def check_unattended(settings: Settings) -> Iterator[Check]:
    """Which projects are served unattended, and the secrets of what wakes the service."""
    unset = "none: `push --all` and webhooks serve what AUTOLABEL_PROJECTS names"
    yield _ok("projects", ", ".join(settings.projects) or unset)
    encord = "ENCORD_WEBHOOK_SECRET", settings.webhook_secret, settings.webhook_secret_file, ENCORD
    bucket = "AUTOLABEL_BUCKET_SECRET", settings.bucket_secret, settings.bucket_secret_file, STANDARD
    yield check_secret("webhook secret", *encord)
    yield check_secret("bucket secret", *bucket)


def check_secret(about: str, name: str, value: SecretStr | None, path: Path | None, scheme: Scheme) -> Check:
    """What `serve` can use, and nobody else's to read; never what it is."""
    try:
        KeyRing(value, path, scheme)
    except PermanentUsageError as error:
        return Check(Level.FAIL, about, f"{error}; set {name}, or {name}_FILE to a file with one secret a line")
    if path is None:
        return _ok(about, f"from {name}" if value else f"none, so `serve` takes no such calls; {name}_FILE names one")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Check(Level.WARN, about, f"{path} has mode {mode:o}, so others can read it: chmod 600 {path}")
    return _ok(about, f"{path}, mode {mode:o}")


def check_models(settings: Settings) -> Iterator[Check]:
    """Raises PermanentUsageError for the recipe, PermanentModelError for weights that are damaged."""
    from autolabel.models import count_tokens

    config = load_config(settings.config)
    detector = _check_weights("detector", config.detector)
    yield detector
    if detector.level == Level.OK:
        budget = count_tokens(config.detector.family, config.detector.weights, ["object"]).budget
        yield _ok("tokeniser", f"reads prompts, {budget} tokens in one pass")
    if config.segmenter:
        yield _check_weights("segmenter", config.segmenter)


def _check_weights(about: str, model: ModelChoice) -> Check:
    from autolabel.models import weights_digest
    from autolabel.models.weights import find
    from autolabel.stock import describe

    if find(model.weights) is None:
        what = f"{model.weights} ({describe(model.weights)}) is not on this machine"
        text = f"{what}; `autolabel models pull {model.weights}` or the first push downloads it, which needs network"
        return Check(Level.WARN, about, text)
    return _ok(about, f"{model.weights}, SHA-256 {weights_digest(model.weights)}")


def check_device(settings: Settings) -> Check:
    """Raises PermanentUsageError where the device is not there."""
    from autolabel.models import describe_device

    text = describe_device(settings.device)
    if text.startswith("cpu") and not load_config(settings.config).detector.weights.startswith("bundled:"):
        text += "; full-size models are slow there: `push --dry-run` measures how slow, AUTOLABEL_DEVICE names a GPU"
        return Check(Level.WARN, "device", text)
    return _ok("device", text)


def check_disk(settings: Settings) -> Check:
    """Ledger, reports and spooled media lie in one folder; what runs ahead of models and delivery must fit."""
    home = settings.home
    place = next(folder for folder in (home, *home.parents) if os.path.lexists(folder))
    used = [place, *(home / name for name in ("reports", "spool", "locks") if os.path.lexists(home / name))]
    for folder in used:
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            return Check(Level.FAIL, "disk", f"{folder} is no folder that can be written to: set AUTOLABEL_HOME")
    # Ahead of the models and in their hands; then either those the flood guard looks at or two deliveries.
    rows = settings.download_threads + 4 * settings.batch_frames + max(GUARD_ROWS, 2 * settings.write_rows)
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free at {home}"
    if free < rows * min(settings.max_media_bytes, USUAL_MEDIA_BYTES):
        need = f"the files of {rows} label rows may lie there, each up to {settings.max_media_bytes / 1e6:.0f} MB"
        return Check(Level.WARN, "disk", f"{text}, but {need}: make room, or lower AUTOLABEL_MAX_MEDIA_BYTES")
    return _ok("disk", text)


def check_clock(domain: str) -> Check:
    """Raises TransientServiceError where nothing answers."""
    from autolabel.remote.client import server_time_s

    skew_s = time.time() - server_time_s(domain)
    text = f"{domain} answers; this clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) <= SKEW_WARN_S:
        return _ok("platform", text)
    level = Level.WARN if abs(skew_s) <= SKEW_FAIL_S else Level.FAIL
    return Check(level, "platform", f"{text}, and requests are signed with the time: set the clock (NTP)")


def check_project(settings: Settings, project: str | None) -> Iterator[Check]:
    """Raises what the platform's refusals are translated to."""
    if project is None:
        yield _check_access(settings)
        return
    found = read_project(settings, project_hash(project))
    yield _ok("project", f"{found.title}, {found.project_hash}")
    yield check_role(found.role)
    yield from check_workflow(found, settings)
    yield from _guarded("ontology", lambda: summarise(check_ontology(settings, found.project_hash)))


def _check_access(settings: Settings) -> Check:
    """Asking for a project that cannot exist: only a key that is let in learns so."""
    with suppress(PermanentNotFoundError):
        read_project(settings, NO_PROJECT)
    return _ok("access", "the platform accepts the key; --project HASH looks further")


def check_role(role: str) -> Check:
    """What the key's owner is in the project. The platform does not say whether that is a person."""
    if role in ("admin", "team_manager"):
        return _ok("rights", f"the key's owner is {role} here; a service account's is best")
    if role in ("annotator", "annotator_reviewer"):
        text = "which is what people who label are: if it is a person's key, its labels and theirs bear one name"
        return Check(Level.WARN, "rights", f"the key's owner is {role} here, {text}; use a service account's key")
    if role in ("reviewer", "viewer"):
        text = f"the key's owner is only {role} here: let an admin of the project give it the right to label"
        return Check(Level.FAIL, "rights", text)
    return Check(Level.WARN, "rights", "the platform does not say what the key's owner may do; try `push --limit 1`")


def check_workflow(project: Project, settings: Settings) -> Iterator[Check]:
    workflow = project.workflow
    if workflow.has_consensus:
        yield Check(Level.FAIL, "workflow", "it has consensus stages, which are refused; use a project without them")
        return
    stages, first = " -> ".join(stage.title for stage in workflow.stages), workflow.first_human_stage
    if first is None:
        text = f"{stages} has no annotation stage, so no task waits for labels; add one"
        yield Check(Level.FAIL, "workflow", text)
        return
    yield _ok("workflow", f"{stages}; no consensus; annotators begin at {first.title}")
    yield from _guarded("agent stage", lambda: check_agent_stage(project, settings))


def check_agent_stage(project: Project, settings: Settings) -> Iterator[Check]:
    """Raises PermanentUsageError for what a push would refuse too."""
    stages, agent = project.workflow.stages, find_agent_stage(project, settings.agent_stage)
    if agent is not None:
        choose_pathways(agent, settings.pathways.model_dump())
        yield _ok("agent stage", f"tasks are labelled at {agent.title}, and move on from there")
    elif any(stage.kind == "AGENT" for stage in stages):
        text = "no Agent stage is clearly ours; where one is, name it in AUTOLABEL_AGENT_STAGE"
        yield Check(Level.WARN, "agent stage", text)


def summarise(findings: Iterable[Finding]) -> Iterator[Check]:
    """The worst of what `ontology check` finds, and how much there is."""
    found = list(findings)
    errors = [finding for finding in found if finding.severity == Severity.ERROR]
    warnings = [finding for finding in found if finding.severity == Severity.WARNING]
    if not errors and not warnings:
        yield _ok("ontology", "prompts and classes fit")
        return
    worst, counts = (errors or warnings)[0], f"{len(errors)} errors, {len(warnings)} warnings"
    text = f"{worst} ({counts}; `autolabel ontology check` lists all)"
    yield Check(Level.FAIL if errors else Level.WARN, "ontology", text)
