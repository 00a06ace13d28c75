"""The command line: parse, call one function, print. The only reader of the environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.cli_models import models
from autolabel.cli_review import review
from autolabel.cli_serve import serve
from autolabel.cli_trial import trial
from autolabel.core.endings import EXIT_PARTIAL
from autolabel.core.lint import Severity
from autolabel.core.rows import Destination
from autolabel.errors import PermanentUsageError
from autolabel.logs import keep
from autolabel.settings import Settings, forget_secrets, read_settings

if TYPE_CHECKING:
    from autolabel.operate import Step
    from autolabel.plan import Plan

Reference = Annotated[
    bool,
    typer.Option(
        "--reference",
        help="Run the models by transformers' own code, without our fast paths: slow, to compare with.",
    ),
]

Every = Annotated[
    bool,
    typer.Option("--all", help="Push all AUTOLABEL_PROJECTS; never asks, says nothing where there is nothing to do."),
]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0.01, help="Take up nothing new after so long [AUTOLABEL_MAX_MINUTES].")
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pre-label Encord projects with Grounding DINO and SAM, unattended, without touching people's work.",
    epilog="Exit codes: 0 done or nothing to do, 1 failed, 2 usage, 3 some rows set aside, 75 try again later.",
)

ontology = typer.Typer(no_args_is_help=True, help="Make and check the prompts for a project's ontology.")
app.add_typer(ontology, name="ontology")
app.add_typer(models, name="models")
app.command()(serve)
app.command()(trial)
app.command()(review)


@app.command()
def push(
    project: Annotated[str | None, typer.Option(help="Project hash, or its URL.")] = None,
    every: Every = False,
    config: Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file [AUTOLABEL_CONFIG].")] = None,
    to: Annotated[
        Destination | None,
        typer.Option(help="Where labels go (left out: agent-stage where one stage is ours, else main)."),
    ] = None,
    pull_from: Annotated[
        str | None,
        typer.Option(metavar="STAGE", help="Move new tasks of this annotation stage to the Agent stage and back."),
    ] = None,
    include_assigned: Annotated[
        bool, typer.Option("--include-assigned", help="With --to main: take tasks that a person has not opened yet.")
    ] = False,
    dataset: Annotated[str | None, typer.Option(help="Only rows of this dataset (title or hash).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take up at most this many rows.")] = None,
    max_minutes: MaxMinutes = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Take up rows again that were set aside.")
    ] = False,
    reference: Reference = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing anywhere.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed without a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan or the result as JSON.")] = False,
) -> None:
    """Label a project's unlabelled rows and write them for review; rows with people's work are left alone.

    Running it again adds nothing: what is done is remembered.
    """
    from autolabel.bootstrap import open_session
    from autolabel.cli_push import printing, push_all, show_plan
    from autolabel.running import carry_out, run_once

    _check_whom(project, every=every, dry_run=dry_run)
    if not (yes or dry_run or every) and (as_json or not sys.stdin.isatty()):
        raise PermanentUsageError("nobody is here to confirm the plan: give --yes to write, or --dry-run to look")
    settings = _settings(config)
    if max_minutes is not None:
        settings = settings.model_copy(update={"max_minutes": max_minutes})
    changes = {
        "destination": to,
        "pull_from": pull_from,
        "include_assigned": include_assigned,
        "dataset": dataset,
        "limit": limit,
        "retry_failed": retry_failed,
    }
    if project is None:
        raise typer.Exit(push_all(settings, changes, is_reference=reference, as_json=as_json))
    caller = printing(as_json=as_json)
    if yes and not dry_run:
        raise typer.Exit(run_once(settings, project, caller, changes, is_reference=reference).exit_code)
    with open_session(settings, project, is_reference=reference) as session:
        options = session.options(**changes)
        plan = session.plan(options)
        show_plan(session, plan, as_json=as_json)
        if dry_run or not _confirmed(plan):
            return
        raise typer.Exit(carry_out(session, plan, options, caller).exit_code)


@app.command()
def preview(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGES|FOLDER|VIDEO]...", help="Files or folders on this machine."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help='What to look for in them: "scissors, needle holder" (left out: the prompt map).'),
    ] = None,
    project: Annotated[str | None, typer.Option(help="Look at a project's rows instead: hash or URL.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Look at most at this many.")] = 20,
    reference: Reference = False,
    config: Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file [AUTOLABEL_CONFIG].")] = None,
) -> None:
    """Show what would be found, as a page of overlays; writes nothing to any platform.

    Files need no key and no platform. Of a project, rows that nobody opened come first.
    """
    from autolabel import glances
    from autolabel.console import print_preview, progress
    from autolabel.home import report_folder
    from autolabel.report import write_report

    settings = _settings(config)
    if project is not None and (paths or prompts):
        raise PermanentUsageError(
            "--project takes pictures and classes from the project; leave out files and --prompts"
        )
    if project is not None:
        glance = glances.glance_at_project(settings, project)
    elif paths:
        glance = glances.glance_at_files(settings, paths, prompts)
    else:
        raise PermanentUsageError("nothing to look at: give pictures, videos or a folder, or --project HASH")
    with progress(min(limit, len(glance.rows))) as on_step:
        page, album = glances.run_preview(settings, glance, limit, on_step, is_reference=reference)
    print_preview(page)
    typer.echo(f"report: {write_report(report_folder(settings), page, album)}")
    raise typer.Exit(EXIT_PARTIAL if page.messages else 0)


@app.command()
def publish(
    run: Annotated[str, typer.Option(help="Id of a run that went to its own branch.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed without a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Copy what `push --to branch` wrote to main, only where main has no row yet; nothing is inferred."""
    from autolabel.bootstrap import open_run
    from autolabel.cli_push import printing
    from autolabel.running import carry_out

    if not yes and (as_json or not sys.stdin.isatty()):
        raise PermanentUsageError("nobody is here to confirm: give --yes to copy the run's rows to main")
    unlimited = {"max_objects_a_day": None, "max_waiting": None}  # which rows these are was said by name
    settings = _settings(None).model_copy(update={"max_minutes": None})
    with open_run(settings, run) as (session, written):
        options = session.options(destination=Destination.MAIN, only=written, **unlimited)
        plan = session.plan(options)
        if not yes and not typer.confirm(f"Copy {len(plan.todo)} rows to main of {session.project.title!r}?"):
            return
        raise typer.Exit(carry_out(session, plan, options, printing(as_json=as_json), saves=False).exit_code)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where each project stands, what is owed, the latest runs and what went wrong. Reads the ledger only."""
    from autolabel.console import print_status
    from autolabel.home import open_overview
    from autolabel.locks import is_held

    settings = _settings(None)
    with closing(open_overview(settings)) as overview:
        told = {
            "serving": is_held(settings.home / "locks" / "serve.lock") or (None if settings.ledger else False),
            "projects": overview.projects(),
            "queue": dict(overview.owed()),
            "runs": overview.runs(limit=10),
            "rows": overview.counts(),
            "set_aside": overview.messages(limit=20),
        }
    if as_json:
        typer.echo(json.dumps(told))
    else:
        print_status(told)


@app.command()
def doctor(
    project: Annotated[str | None, typer.Option(help="Also look at this project: hash or URL.")] = None,
    config: Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file [AUTOLABEL_CONFIG].")] = None,
) -> None:
    """Check key, models, device, disk, clock and project: each line is ok, or says what to do. Reads only."""
    from autolabel.doctor import Level, diagnose

    failed = False
    for check in diagnose(_settings(config), project):
        typer.echo(f"{check.level:<5} {check.about}: {check.text}")
        failed |= check.level == Level.FAIL
    raise typer.Exit(int(failed))


@ontology.command("init")
def ontology_init(
    project: Annotated[str, typer.Option(help="Project hash, or its URL.")],
    out: Annotated[Path, typer.Option(help="The file to write; one that exists is never overwritten.")] = Path(
        "prompts.yaml"
    ),
) -> None:
    """Write a prompt map to edit, with every class of the project's ontology. Reads the platform only."""
    from autolabel.bootstrap import write_prompt_map

    write_prompt_map(_settings(None), project, out)
    typer.echo(f"wrote {out}; edit it and name it in a recipe (prompt_map: {out.absolute()})")


@ontology.command("check")
def ontology_check(
    project: Annotated[str, typer.Option(help="Project hash, or its URL.")],
    config: Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file [AUTOLABEL_CONFIG].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what in the recipe's prompts does not fit the project. Reads the platform only; exit code 2 on errors."""
    from autolabel.bootstrap import check_ontology
    from autolabel.console import print_findings

    findings = check_ontology(_settings(config), project)
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        print_findings(findings)
    if any(finding.severity == Severity.ERROR for finding in findings):
        raise typer.Exit(PermanentUsageError.exit_code)


@app.command()
def sandbox(
    folder: Annotated[Path, typer.Option("--dir", help="Where its state, key and log live.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    scenario: Annotated[
        str | None, typer.Option(help="Make a project first: demo, demo-agent or demo-finished.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Images in that project.")] = None,
) -> None:
    """Serve a stand-in of the Encord API on this machine, for trying things out. Talks to nobody else."""
    from autolabel.sandbox.server import serve

    try:
        serve(folder, port, scenario, frames)
    except (ValueError, OSError) as error:
        raise PermanentUsageError(f"the sandbox cannot be served: {error}") from error


@app.command()
def demo(
    folder: Annotated[Path | None, typer.Option("--dir", help="Where it lives [AUTOLABEL_HOME/demo].")] = None,
) -> None:
    """Run the main job on synthetic pictures: a sandbox on this machine, small models, a page of overlays.

    Needs no account, network or GPU. Running it again changes nothing.
    """
    from autolabel.bootstrap import open_session
    from autolabel.cli_push import printing, show_plan
    from autolabel.running import carry_out
    from autolabel.sandbox import running

    home = (folder or _settings(None).home / "demo").absolute()
    with running(home / "sandbox", scenario="demo") as served:
        changes = {"domain": served["domain"], "ssh_key_file": Path(served["ssh_key_file"]), "home": home}
        settings = read_settings(env_file=None).model_copy(update={**changes, "config": "demo", "ledger": None})
        with open_session(settings, next(iter(served["projects"].values()))) as session:
            options = session.options()
            plan = session.plan(options)
            show_plan(session, plan, as_json=False)
            raise typer.Exit(carry_out(session, plan, options, printing(as_json=False)).exit_code)


@app.command()
def undo(
    run: Annotated[str, typer.Option(help="Id of the run to take back.")],
    via_agent_stage: Annotated[
        bool, typer.Option("--via-agent-stage", help="Also rows nobody has begun: to the Agent stage and back.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed without a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan or the result as JSON.")] = False,
) -> None:
    """Take back what a run wrote: on its branch, and on main where a task is at the Agent stage.

    Shows the plan first. What people touched stays, and every row that is left is listed with its reason and link.
    """
    from autolabel.bootstrap import open_undo
    from autolabel.console import describe_undo, print_undo
    from autolabel.operate import Action, Why

    settings = _settings(None)

    def show(what: str, steps: Sequence[Step]) -> None:
        described = describe_undo(work.run, steps, settings.domain)
        typer.echo(json.dumps(described)) if as_json else print_undo(what, described, via=via_agent_stage)

    with open_undo(settings, run) as work:
        steps = work.plan(via_agent_stage=via_agent_stage)
        if not (yes and as_json):
            show("would undo", steps)
        if not yes:
            if all(step.action == Action.LEAVE for step in steps):
                return
            if as_json or not sys.stdin.isatty():
                raise PermanentUsageError("nobody is here to confirm the plan, so nothing was undone: give --yes")
            if not typer.confirm("\nUndo this?"):
                return
        done = work.execute(steps)
        show("undid", done)
    raise typer.Exit(EXIT_PARTIAL if any(step.why == Why.REFUSED for step in done) else 0)


@app.command()
def explain(
    object_hash: Annotated[str, typer.Argument(help="Hash of an object as the editor or an export gives it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell where an object of ours came from: run, recipe, models, prompt, scores, picture. Reads the ledger only."""
    from autolabel.console import print_explanation
    from autolabel.home import open_ledger
    from autolabel.operate import explain as look_up

    with closing(open_ledger(_settings(None))) as ledger:
        told = look_up(ledger, object_hash)
    typer.echo(json.dumps(told)) if as_json else print_explanation(told)


def _check_whom(project: str | None, *, every: bool, dry_run: bool) -> None:
    if every == (project is not None):
        raise PermanentUsageError("give either --project HASH, or --all for every project in AUTOLABEL_PROJECTS")
    if every and dry_run:
        raise PermanentUsageError("--dry-run shows the plan of one project: give --project HASH")


def _confirmed(plan: Plan) -> bool:
    if plan.is_idle:
        typer.echo("\nnothing to do")
        return False
    return typer.confirm("\nWrite this?")


def _settings(config: str | None) -> Settings:
    settings = read_settings()
    forget_secrets()
    keep(settings.home)
    return settings.model_copy(update={"config": config}) if config else settings
