"""One look at one project, whatever called for it: plan, label, deliver, report. CLI, cron and webhooks end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolabel.album import Album
from autolabel.bootstrap import Session, Warm, open_session
from autolabel.errors import AutolabelError, Interrupted, PermanentUsageError
from autolabel.home import open_looks, report_folder
from autolabel.looks import Look
from autolabel.plan import Options, Plan
from autolabel.report import write_report
from autolabel.settings import Settings, project_hash
from autolabel.sync import Run
from autolabel.tally import Tally

EXIT_PARTIAL = 3
EXIT_LATER = 75

OnStep = Callable[[Tally], None]


@dataclass(frozen=True)
class Ended:
    """How a look at a project ended.

    - `summary`: the run in numbers, see `Run.summary`; None where there was nothing to do.
    - `names`: class feature hash -> name.
    - `report`: the page that shows the run; None where nothing came to its end.
    - `exit_code`: 0, EXIT_PARTIAL where rows are set aside, EXIT_LATER where some wait for the next run.
    """

    project_title: str
    summary: Mapping[str, Any] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    report: Path | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Caller:
    """Who asks for a run, and how it is told of it.

    - `name`: `cli`, `cron` or `webhook`.
    - `progress`: given the number of rows, a context in which steps are told.
    - `on_end`: told how a run ended, also where an error ended it.
    - `wants_summary`: begins a run even where there is nothing to do.
    """

    name: str
    progress: Callable[[int], AbstractContextManager[OnStep]] = lambda rows: nullcontext(lambda tally: None)
    on_end: Callable[[Ended], None] = lambda ended: None
    wants_summary: bool = False


def run_once(
    settings: Settings,
    project: str,
    caller: Caller,
    changes: Mapping[str, object] | None = None,
    *,
    warm: Warm | None = None,
    is_reference: bool = False,
) -> Ended:
    """Label what is unlabelled in a project; `changes` to the settings' options.

    Raises what `open_session` and `Run.execute` raise; the look is noted in any case.
    """
    try:
        with open_session(settings, project, warm=warm, is_reference=is_reference) as session:
            options = session.options(**(changes or {}))
            plan = session.plan(options)
            if plan.is_idle and not plan.news and not caller.wants_summary:
                session.looks.note(Look(plan.job.project_hash, caller.name, plan.project.title))
                return Ended(plan.project.title)
            return carry_out(session, plan, options, caller)
    except (AutolabelError, Interrupted) as error:
        with suppress(AutolabelError), closing(open_looks(settings)) as looks:
            looks.note(Look(project_hash(project), caller.name, error=str(error) or "interrupted"))
        raise


def carry_out(session: Session, plan: Plan, options: Options, caller: Caller, *, saves: bool = True) -> Ended:
    """Execute a plan, write its report and note the look. Raises what `Run.execute` raises."""
    with session.running(plan, saves=saves) as (run, album):
        try:
            with caller.progress(len(plan.todo)) as on_step:
                run.execute(options, on_step)
        finally:
            caller.on_end(ended := _ended(session, run, album))
    session.looks.note(Look(plan.job.project_hash, caller.name, plan.project.title, run.id))
    return ended


def _ended(session: Session, run: Run, album: Album) -> Ended:
    """The labels are written: that there can be no report is told, and no error."""
    summary, messages, report = run.summary(), list(run.tally.messages), None
    if run.tally.finished:
        try:
            report = write_report(report_folder(session.settings), session.page(run), album)
        except PermanentUsageError as error:
            messages.append(f"the labels are written; {error}")
    names = {item.feature_hash: item.name for item in session.project.classes}
    code = _exit_code(summary, run.plan)
    return Ended(session.project.title, summary, names, tuple(messages), report, code)


def _exit_code(summary: Mapping[str, Any], plan: Plan) -> int:
    if summary["pending"] > plan.beyond_limit:
        return EXIT_LATER
    return EXIT_PARTIAL if summary["set_aside"] else 0
