"""What a person reads: the plan, the progress and the result, in words. Results go to stdout, progress to stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autolabel.core.limits import LIMIT_TEXT, Limit
from autolabel.core.lint import Finding, Severity
from autolabel.core.rows import REASON_TEXT, Destination, OntologyClass, Reason
from autolabel.operate import WHY_TEXT, Action, Step, Why, WrittenRun
from autolabel.plan import Plan
from autolabel.recipe import Recipe
from autolabel.report import SPEED, Page, dropped, editor_url, row_lines
from autolabel.stages import speed_text
from autolabel.tally import Tally

LINE_EVERY_S = 10.0

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def describe_plan(
    plan: Plan, recipe: Recipe, left_to_people: Sequence[OntologyClass], seconds_per_frame: float | None
) -> dict[str, Any]:
    """The plan as JSON: rows that add up, cost, destination and why, prompts, what is left to people, writes."""
    project, frames = plan.project, sum(recipe.frame_count(row) for row in plan.to_infer)
    return {
        "project": {"hash": project.project_hash, "title": project.title},
        "recipe": recipe.id,
        "destination": plan.job.destination,
        "why": f"{plan.why}: {_effect(plan, recipe.branch)}",
        "rows": {
            "total": plan.total,
            "to_label": len(plan.todo),
            "beyond_limit": plan.beyond_limit,
            "held_back": dict(plan.held_back),
            "done_before": len(plan.done),
            "left_alone": dict(Counter(reason for _, reason in plan.left_alone)),
            "set_aside": dict(Counter(reason for _, reason in plan.set_aside)),
        },
        "notes": list(plan.notes),
        "frames": frames,
        "seconds_per_frame": seconds_per_frame,
        "seconds": None if seconds_per_frame is None else frames * seconds_per_frame,
        "classes": [
            {
                "name": cls.name,
                "shape": cls.shape,
                "prompts": list(cls.prompts),
                "threshold": cls.threshold,
                "max_instances": cls.max_instances,
            }
            for cls in recipe.plan.classes
        ],
        "left_to_people": {
            "classes": [f"{item.name} ({item.shape})" for item in left_to_people],
            "attributes": [f"{item.name}: {name}" for item in project.classes for name in item.required],
            "questions": list(project.required_questions),
        },
        "writes": {
            "rows_saved_on_branch": 0 if plan.job.destination == Destination.AGENT_STAGE else len(plan.todo),
            "rows_copied_to_main": len(plan.todo) if plan.job.destination == Destination.MAIN else 0,
            "rows_saved_on_main": len(plan.todo) if plan.job.destination == Destination.AGENT_STAGE else 0,
            "tasks_pulled": plan.tasks_to_pull,
            "tasks_moved_on": plan.tasks_to_move,
        },
    }


def _effect(plan: Plan, branch: str) -> str:
    """What the destination means for the platform."""
    if plan.job.destination == Destination.BRANCH:
        return f"only our own label branch {branch} is written; `autolabel publish` copies it to main later"
    if plan.job.destination == Destination.AGENT_STAGE:
        stage = plan.agent_stage.title if plan.agent_stage else ""
        origin = f"; new tasks of {plan.pull_from.title} are moved there for it" if plan.pull_from else ""
        return f"labels go straight to main while their task sits at {stage}, and it moves on then{origin}"
    first = plan.project.workflow.first_human_stage
    where = f"tasks wait at {first.title}" if first else "no annotation stage"
    return f"{where}, labels go to our branch {branch} and are copied to main only where main has no row yet"


def print_plan(plan: Mapping[str, Any]) -> None:
    rows, left = plan["rows"], plan["left_to_people"]
    out.print(f"[bold]{escape(plan['project']['title'])}[/]  {plan['project']['hash']}")
    out.print(f"to {plan['destination']}, {escape(plan['why'])}\n")
    lines = [
        (rows["to_label"], "to label, by priority"),
        (rows["beyond_limit"], "beyond --limit, for the next run"),
        *((count, f"held back: {LIMIT_TEXT[Limit(why)]}") for why, count in rows["held_back"].items()),
        (rows["done_before"], "done by earlier runs"),
        *((count, f"left alone: {REASON_TEXT[Reason(why)]}") for why, count in rows["left_alone"].items()),
        *((count, f"set aside: {REASON_TEXT[Reason(why)]}") for why, count in rows["set_aside"].items()),
        (rows["total"], "label rows in all"),
    ]
    print_counts([(count, text) for count, text in lines if count])
    for note in plan["notes"]:
        out.print(escape(note))
    out.print(f"\n{plan['frames']} frames to infer{_cost(plan)}\n")
    for cls in plan["classes"]:
        prompts = ", ".join(f'"{prompt}"' for prompt in cls["prompts"])
        limits = f"score >= {cls['threshold']:g}, at most {cls['max_instances']} a frame"
        out.print(f"  {escape(cls['name'])} ({cls['shape']}): {escape(prompts)}, {limits}")
    for what, names in (
        ("classes not asked for", left["classes"]),
        ("required attributes", left["attributes"]),
        ("required questions", left["questions"]),
    ):
        if names:
            out.print(f"  left to people, {what}: {escape(', '.join(names))}")
    writes = plan["writes"]
    parts = [
        (writes["rows_saved_on_branch"], "rows on our branch"),
        (writes["rows_copied_to_main"], "copies to main where it is free"),
        (writes["rows_saved_on_main"], "rows on main where nothing stands"),
        (writes["tasks_pulled"], "tasks moved to the Agent stage"),
        (writes["tasks_moved_on"], "tasks moved on from there"),
    ]
    said = ", ".join(f"{count} {what}" for count, what in parts if count)
    out.print(f"\nwrites: {f'at most {said}' if said else 'none'}")


def print_counts(lines: Sequence[tuple[int, str]]) -> None:
    for count, text in lines:
        out.print(f"{count:>7}  {escape(text)}")


def _cost(plan: Mapping[str, Any]) -> str:
    if not plan["frames"] or plan["seconds_per_frame"] is None:
        return ""
    return f", about {_duration(plan['seconds'])} ({plan['seconds_per_frame']:.2f} s a frame, measured just now)"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_result(summary: Mapping[str, Any], names: Mapping[str, str], messages: Sequence[str]) -> None:
    """The rows of a run in words, then what it wrote; `names` is class feature hash -> name."""
    out.print(f"\nrun {summary['run']}")
    print_counts([*row_lines(summary), (summary["total"], "label rows in all")])
    out.print(f"objects written: {_by_class(summary['objects'], names)}")
    for counts, what in dropped(summary):
        if counts:
            out.print(f"left out, {what}: {_by_class(counts, names)}")
    if text := speed_text(summary["speed"]):
        out.print(text)
    if summary["set_aside"]:
        out.print("rows set aside stay so until `autolabel push --retry-failed` takes them up again")
    _print_messages(messages)


def summary_line(title: str, summary: Mapping[str, Any], report: Path | None) -> str:
    """A run in one line, for cron's mail; what is nought is left out, except what was labelled."""
    held, others = summary["held_back"], summary["pending"] - sum(summary["held_back"].values())
    waiting = held | {"for the next run": others}
    parts = [
        f"{summary['labelled']} labelled",
        *_some(summary["empty"], "empty"),
        f"{sum(summary['objects'].values())} objects",
        *_some(sum(summary["left_alone"].values()), "left alone"),
        *_some(sum(summary["set_aside"].values()), "set aside", summary["set_aside"]),
        *_some(sum(summary["elsewhere"].values()), "done by other runs"),
        *_some(summary["pending"], "waiting", waiting),
        f"run {summary['run']}",
        *([f"report {report}"] if report else []),
    ]
    name = "".join(letter if letter.isprintable() else " " for letter in title)
    return f"{name}: {', '.join(parts)}"


def _some(count: int, what: str, why: Mapping[str, int] | None = None) -> list[str]:
    reasons = ", ".join(f"{number} {reason}" for reason, number in (why or {}).items() if number)
    return [f"{count} {what}" + (f" ({reasons})" if reasons else "")] if count else []


def _print_messages(messages: Sequence[str]) -> None:
    for message in messages[:5]:
        err.print(f"  {escape(message)}")
    if len(messages) > 5:
        err.print(f"  ... and {len(messages) - 5} more")


def print_preview(page: Page) -> None:
    print_counts([*page.rows, (sum(count for count, _ in page.rows), f"{page.rows_title} in all")])
    names = {item.feature_hash: item.name for item in page.classes}
    out.print(f"{page.objects_title}: {_by_class(page.objects, names)}")
    if text := dict(page.facts).get(SPEED):
        out.print(text)
    _print_messages(page.messages)


def _by_class(counts: Mapping[str, int], names: Mapping[str, str]) -> str:
    parts = ", ".join(f"{count} {names.get(key, key)}" for key, count in sorted(counts.items()))
    return f"{sum(counts.values())}" + (f" ({escape(parts)})" if parts else "")


@contextmanager
def progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """A bar with rate and time left on a terminal; else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    columns = (TextColumn("labelling"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task("rows", total=total, rate="")
        started = time.monotonic()

        def show(tally: Tally) -> None:
            rate = f"{tally.finished / (time.monotonic() - started):.1f} rows/s, {tally.inferred_frames} frames"
            bar.update(task, completed=tally.finished, rate=rate)

        yield show


def _lines(total: int) -> Callable[[Tally], None]:
    started = last = time.monotonic()

    def show(tally: Tally) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_EVERY_S:
            return
        last = now
        rate = tally.finished / (now - started)
        left = f", {_duration((total - tally.finished) / rate)} left" if rate else ""
        err.print(f"{tally.finished}/{total} rows, {tally.inferred_frames} frames, {rate:.1f} rows/s{left}")

    return show


def print_status(told: Mapping[str, Any]) -> None:
    """Where each project stands, trouble first; the latest runs, newest first; why rows are set aside."""
    if not told["projects"]:
        out.print("no run yet; start with `autolabel push --project HASH --limit 25`")
        return
    for project in told["projects"]:
        _print_project(project)
    if unknown := told["queue"].get(""):
        out.print(f"owed: {unknown} look-ups of the projects that hold what a bucket event named")
    if told["queue"] and told["serving"] is False:  # None where another host may serve
        out.print("`autolabel serve` does not run here, so nothing that is owed is begun")
    out.print()
    for run in told["runs"]:
        _print_run(run)
    for row in told["set_aside"]:
        out.print(f"  set aside, {escape(row['message'])}")


def _print_project(project: Mapping[str, Any]) -> None:
    rows, look = project["rows"], project["look"]
    out.print(f"[bold]{escape(project['title'])}[/]  {project['project']}")
    if look:
        ended = f"run {look['run_id']}" if look["run_id"] else "nothing to do"
        out.print(f"  looked at {_moment(look['at'])} by {look['called_by']}: {escape(look['error'] or ended)}")
    if look and look["error"]:
        succeeded = look["succeeded_at"]
        out.print(f"  last success: {_moment(succeeded) if succeeded else 'none yet'}")
    if project["owed"]:
        out.print(f"  owed: {project['owed']} that webhooks asked for")
    of_reasons = [(count, f"{what.replace('_', ' ')}: {_reason(why)}") for what, why, count in project["reasons"]]
    lines = [(rows["labelled"], "labelled"), (rows["empty"], "nothing found"), *of_reasons]
    print_counts([line for line in (*lines, (rows["under_way"], "under way")) if line[0]])


def _reason(why: str) -> str:
    return REASON_TEXT[Reason(why)] if why in list(Reason) else why


def _print_run(run: Mapping[str, Any]) -> None:
    parts = [f"{run[what]} {what}" for what in ("labelled", "objects", "pending") if run[what] is not None]
    parts += [f"{run['frames_per_second']:.1f} frames/s"] if run["frames_per_second"] else []
    told = ", ".join(parts) or "-"
    out.print(f"{run['id']}  {run['ended']:<9}  {escape(run['project_title'])} to {run['destination']}: {told}")
    if run["stopped_by"]:
        out.print(f"  stopped: {escape(run['stopped_by'])}")
    for why, count in run["held_back"].items():
        out.print(f"  held back: {count} rows, {LIMIT_TEXT[Limit(why)]}")


def describe_undo(run: WrittenRun, steps: Sequence[Step], domain: str) -> dict[str, Any]:
    """An undo as JSON, planned or done: rows by what becomes of them, objects, and every row that is left."""
    project_hash = run.job.project_hash
    return {
        "run": run.id,
        "branch": run.recipe.branch,
        "rows": dict(Counter(step.action for step in steps if step.action != Action.SETTLE)),
        "objects": sum(step.objects for step in steps),
        "kept": sum(step.kept for step in steps if step.action != Action.LEAVE),
        "left": [
            {
                "title": step.title,
                "data_hash": step.claim.data_hash,
                "branch": step.claim.branch,
                "why": step.why,
                "message": step.message,
                "link": editor_url(domain, project_hash, step.claim.data_hash),
            }
            for step in steps
            if step.why is not None
        ],
    }


def print_undo(what: str, undo: Mapping[str, Any], *, via: bool) -> None:
    """`what` the lines are: planned or done; `via`: whether new tasks may go through the Agent stage."""
    texts = {
        Action.EMPTY: f"rows of branch {undo['branch']} emptied",
        Action.EDIT: "rows of main edited, whose tasks are at the Agent stage",
        Action.MOVE_AND_EDIT: "rows of main edited, whose tasks go to the Agent stage and back",
        Action.LEAVE: "rows left as they are",
    }
    out.print(f"\n{what}: run {undo['run']}")
    print_counts([(undo["rows"][action], text) for action, text in texts.items() if action in undo["rows"]])
    if undo["rows"].keys() <= {Action.LEAVE}:
        out.print("nothing to undo")
    else:
        out.print(f"objects of ours taken away: {undo['objects']}, and {undo['kept']} that people touched stay there")
    for row in undo["left"]:
        why = " ".join(filter(None, (WHY_TEXT[row["why"]], row["message"], row["link"])))
        out.print(f"  left, {escape(row['title'])} on {row['branch']}: {escape(why)}")
    if not via and any(row["why"] == Why.ELSEWHERE for row in undo["left"]):
        out.print("--via-agent-stage also takes those whose tasks nobody has begun, where there is an Agent stage")


def print_explanation(told: Mapping[str, Any]) -> None:
    """Where an object came from: a fact a line, then a line a frame."""
    cls, detector, segmenter = told["class"], told["detector"], told["segmenter"]
    is_calibrated = told["confidence"] == "calibrated"
    score = "confidence" if is_calibrated else "score"
    facts = [
        ("object", f"{told['object']}, {cls['name']} ({cls['shape']})"),
        ("row", f"{told['data_hash']} of project {told['project']}"),
        ("recipe", told["recipe"]),
        ("confidence", "calibrated on rows that people had finished" if is_calibrated else "the score, uncalibrated"),
        ("detector", f"{detector['family']} {detector['weights']}, {detector['digest']}"),
        (
            "segmenter",
            f"{segmenter['family']} {segmenter['weights']}, {segmenter['digest']}" if segmenter else "none",
        ),
    ]
    for write in told["written"]:
        undone = f", undone {_moment(write['undone_at'])}" if write["undone_at"] else ""
        facts.append(("written", f"{_moment(write['at'])} to {write['branch']} by run {write['run']}{undone}"))
    for name, text in facts:
        out.print(f"{name:<10} {escape(text)}")
    if told["frames"] is None:
        out.print("frames     not noted by the release that wrote it")
    for found in told["frames"] or ():
        mask = "no mask" if found["mask_score"] is None else f"mask {found['mask_score']:.3f}"
        box = ", ".join(f"{edge:.1f}" for edge in found["box_xyxy_px"])
        out.print(
            f'frame {found["frame"]:<4} "{escape(found["prompt"])}", {score} {found["score"]:.3f}, {mask}, '
            f"box ({box}) px, image {found['image_digest']}"
        )


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


def print_findings(findings: Sequence[Finding]) -> None:
    """One line each, then how many there are of each severity."""
    for finding in findings:
        out.print(f"{finding.severity:<8} {escape(str(finding))}")
    counts = Counter(finding.severity for finding in findings)
    out.print(", ".join(f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in Severity))
