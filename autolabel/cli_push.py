"""How pushes are told: to a person at the command line, to a script, in cron's mail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from autolabel.bootstrap import Session
from autolabel.console import describe_plan, print_plan, print_result, progress, summary_line
from autolabel.core.rows import Destination
from autolabel.errors import PermanentUsageError, in_words
from autolabel.plan import Plan
from autolabel.probing import seconds_per_frame
from autolabel.redaction import redact
from autolabel.running import WORST_FIRST, Caller, Ended, visit_all
from autolabel.settings import Settings


def show_plan(session: Session, plan: Plan, *, as_json: bool) -> None:
    """Print a plan, with what it would cost: some frames are timed for it."""
    ports = session.ports
    cost = seconds_per_frame(plan, session.recipe, ports.source, ports.inference, ports.spool)
    described = describe_plan(plan, session.recipe, session.left_to_people, cost)
    if as_json:
        typer.echo(json.dumps(described))
    else:
        print_plan(described)


def printing(*, as_json: bool) -> Caller:
    """A person at the command line, or a script that reads what it prints."""

    def show(ended: Ended) -> None:
        summary = ended.summary or {}
        if as_json:
            typer.echo(json.dumps(_as_json(ended)))
            return
        print_result(summary, ended.names, ended.messages)
        if ended.report:
            typer.echo(f"report: {ended.report}")
        if summary["destination"] == Destination.BRANCH and summary["labelled"]:
            typer.echo(f"to bring it to main: autolabel publish --run {summary['run']}")

    return Caller("cli", progress, show, wants_summary=True)


def push_all(settings: Settings, changes: Mapping[str, object], *, is_reference: bool, as_json: bool) -> int:
    """Push every project of the settings: one line for each that was worked on, none where there is nothing to do.

    Errors go to stderr, a line each. The exit code is the worst. Raises PermanentUsageError without any project.
    """
    if not settings.projects:
        raise PermanentUsageError(
            "AUTOLABEL_PROJECTS names no project: set it to hashes or URLs, with blanks or commas between them"
        )
    codes, late = {0}, []
    for visit in visit_all(settings, changes, is_reference=is_reference):
        codes.add(visit.exit_code)
        if ended := visit.ended:
            line = summary_line(ended.project_title, ended.summary or {}, ended.report)
            typer.echo(json.dumps(_as_json(ended)) if as_json else line)
        if visit.error:
            typer.echo(redact(f"error: project {visit.project_hash}: {in_words(visit.error)}"), err=True)
        if not visit.is_reached:
            late.append(visit.project_hash)
    if late:
        text = f"not reached in {settings.max_minutes:g} minutes: {', '.join(late)}"
        typer.echo(json.dumps({"not_reached": late}) if as_json else text)
    return next(code for code in WORST_FIRST if code in codes)


def _as_json(ended: Ended) -> dict[str, Any]:
    told = {"title": ended.project_title, "report": ended.report and str(ended.report), "messages": ended.messages}
    return {**(ended.summary or {}), **told}
