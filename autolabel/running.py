"""One look at one project, whatever called for it: plan, label, deliver, report. CLI, cron and webhooks end here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from autolabel.album import Album
from autolabel.bootstrap import Session, Warm, open_session
from autolabel.core.endings import EXIT_PARTIAL
from autolabel.core.limits import Limit
from autolabel.errors import AutolabelError, Interrupted, PermanentUsageError, TransientBusyError, exit_code
from autolabel.home import open_looks, report_folder
from autolabel.logs import about
from autolabel.looks import Look
from autolabel.plan import Options, Plan
from autolabel.redaction import redact
from autolabel.report import write_report
from autolabel.settings import Settings, project_hash
from autolabel.sync import Run
from autolabel.tally import Tally

EXIT_LATER = 75

OnStep = Callable[[Tally], None]


@dataclass(frozen=True)
class Ended:
    """How a look at a project ended.

    - `did_work`: a row was labelled or a task handed over, or should have been; else at most a reason was noted, or
      all was inferred that a limit then held back.
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
    did_work: bool = False


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

    The settings' `max_minutes` count from here. Raises what `open_session` and `Run.execute` raise; the look is noted
    in any case.
    """
    until_s = _until_s(settings)
    with (
        _noting_errors(settings, project, caller) as known,
        open_session(settings, project, warm=warm, is_reference=is_reference) as session,
    ):
        known["project_title"] = session.project.title
        options = session.options(**{"until_s": until_s, **(changes or {})})
        plan = session.plan(options)
        if plan.is_idle and not plan.news and not caller.wants_summary:
            session.looks.note(Look(plan.job.project_hash, caller.name, plan.project.title))
            return Ended(plan.project.title)
        return _execute(session, plan, options, caller, known)


def carry_out(session: Session, plan: Plan, options: Options, caller: Caller, *, saves: bool = True) -> Ended:
    """Execute a plan that a person has seen, write its report and note the look. Raises what `Run.execute` raises."""
    options = replace(options, until_s=_until_s(session.settings))
    with _noting_errors(session.settings, plan.job.project_hash, caller) as known:
        return _execute(session, plan, options, caller, known, saves=saves)


def _until_s(settings: Settings) -> float:
    return time.time() + 60 * settings.max_minutes if settings.max_minutes else math.inf


def _execute(
    session: Session, plan: Plan, options: Options, caller: Caller, known: dict[str, str], *, saves: bool = True
) -> Ended:
    with about(run=session.run_id, project=plan.job.project_hash), session.running(plan, saves=saves) as (run, album):
        known["run_id"] = run.id
        try:
            with caller.progress(len(plan.todo)) as on_step:
                run.execute(options, on_step)
        finally:
            caller.on_end(ended := _ended(session, run, album))
    session.looks.note(Look(plan.job.project_hash, caller.name, plan.project.title, run.id))
    return ended


@contextmanager
def _noting_errors(settings: Settings, project: str, caller: Caller) -> Iterator[dict[str, str]]:
    """A look that ends with an error is noted too, with what is known of it by then: fields of `Look` by name.

    That another run does the work is none: how it ended is for that run to note.
    """
    known: dict[str, str] = {}
    try:
        yield known
    except TransientBusyError:
        raise
    except (Exception, Interrupted) as error:
        text = str(error) or ("interrupted" if isinstance(error, Interrupted) else type(error).__name__)
        with suppress(AutolabelError), closing(open_looks(settings)) as looks:
            looks.note(Look(project_hash(project), caller.name, **known, error=redact(text)))
        raise


@dataclass(frozen=True)
class Visit:
    """What became of one project of several.

    - `ended`: None where there was nothing to do, where another run does the work, and where no run came of it.
    - `error`: what ended it, which stops no other project.
    - `is_reached`: False where the time was over before.
    """

    project_hash: str
    ended: Ended | None = None
    error: Exception | None = None
    is_reached: bool = True

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return exit_code(self.error)
        return self.ended.exit_code if self.ended else 0


WORST_FIRST = (1, 2, EXIT_LATER, EXIT_PARTIAL, 0)
"""Of several projects' exit codes the first of these that there is."""


def visit_all(
    settings: Settings, changes: Mapping[str, object] | None = None, *, is_reference: bool = False
) -> Iterator[Visit]:
    """Label what is unlabelled in each of the settings' projects, the one first that was looked at longest ago.

    `max_minutes` are those of all together.
    """
    until_s = _until_s(settings)
    with closing(Warm()) as warm:
        for project in _longest_ago_first(settings):
            if time.time() >= until_s:
                yield Visit(project, is_reached=False)
                continue
            ends: list[Ended] = []
            visit = partial(run_once, settings, project, Caller("cron", on_end=ends.append), warm=warm)
            error = _error_of(partial(visit, {"until_s": until_s, **(changes or {})}, is_reference=is_reference))
            yield Visit(project, next((one for one in ends if one.did_work), None), error)


def _error_of(visit: Callable[[], Ended]) -> Exception | None:
    """Whatever it is, the other projects are served; that another run does the work is none."""
    try:
        visit()
    except TransientBusyError:
        return None
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _longest_ago_first(settings: Settings) -> list[str]:
    """So that none is left behind for ever where the time is too short for all."""
    with closing(open_looks(settings)) as looks:
        looked_at = {look["project_hash"]: look["at"] for look in looks.all()}
    return sorted(settings.projects, key=lambda project: looked_at.get(project, 0.0))


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
    return Ended(session.project.title, summary, names, tuple(messages), report, code, _did_work(summary, run))


def _did_work(summary: Mapping[str, Any], run: Run) -> bool:
    """Time that is too short for a single row is worth a word; that a day's objects are written was told before."""
    is_held_back = Limit.MAX_MINUTES not in summary["held_back"] and not _exit_code(summary, run.plan)
    return bool(run.plan.handed_over or run.tally.finished or (run.plan.todo and not is_held_back))


def _exit_code(summary: Mapping[str, Any], plan: Plan) -> int:
    """Rows that a limit holds back are left to a later run on purpose."""
    if summary["pending"] > plan.beyond_limit + sum(summary["held_back"].values()):
        return EXIT_LATER
    return EXIT_PARTIAL if summary["set_aside"] else 0
