"""One self-contained HTML page of what a run did: counts that add up, the worst cases, a random sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2

from autolabel.album import BINS, Album
from autolabel.core.limits import LIMIT_TEXT, Limit
from autolabel.core.overlay import hex_color
from autolabel.core.prompts import ClassPlan
from autolabel.core.rows import REASON_TEXT, Destination, LabelRow, OntologyClass, Project, Reason
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.values import Confusion
from autolabel.recipe import Recipe
from autolabel.stages import speed_text
from autolabel.tally import Tally

SPEED = "speed"
MOST_IN_MATRIX = 12
Steps = list[tuple[str, str]]
"""What to do next, and the command that does it ("" for none)."""


@dataclass(frozen=True)
class Page:
    """What a page says beside its pictures.

    - `facts`: names and values under the title; the run's id is one of them.
    - `rows`: (count, what became of them); they add up to all that there were.
    - `objects`: class feature hash -> count; `dropped`: such counts of what was left out, and why.
    - `messages`: what went wrong with which row.
    - `link`: where a row is opened in the platform's editor, where it has one.
    """

    kind: str
    title: str
    run: str
    facts: Sequence[tuple[str, str]]
    rows: Sequence[tuple[int, str]]
    rows_title: str
    objects: Mapping[str, int]
    objects_title: str
    dropped: Sequence[tuple[Mapping[str, int], str]]
    classes: Sequence[OntologyClass]
    recipe: Recipe
    next_steps: Steps
    messages: Sequence[str] = ()
    link: Callable[[LabelRow], str | None] = lambda row: None


@dataclass(frozen=True)
class _ClassLine:
    plan: ClassPlan
    color: str
    count: int
    dropped: tuple[str, ...]
    scores: Sequence[int]


@dataclass(frozen=True)
class Matrix:
    """Who was taken for whom: of each row, what people drew, the counts of what was found; None stands for nothing.

    `left_out`: how many classes are not in it, as they are mixed up least.
    """

    names: Sequence[str]
    counts: Sequence[Sequence[int]]
    left_out: int


def matrix_of(names: Mapping[str, str], confusion: Confusion) -> Matrix:
    """Of classes by feature hash; of many those that are mixed up most. Beside them nothing."""
    mixed_up: Counter[str] = Counter()
    for (drawn, found), count in confusion.items():
        if drawn is not None and found is not None and drawn != found:
            mixed_up.update({drawn: count, found: count})
    shown = sorted(names, key=lambda key: -mixed_up[key])[:MOST_IN_MATRIX]
    keys = (*shown, None)
    return Matrix(
        [*(names[key] for key in shown), "nothing"],
        [[confusion.get((drawn, found), 0) for found in keys] for drawn in keys],
        len(names) - len(shown),
    )


def write_report(folder: Path, page: Page, album: Album) -> Path:
    """Write the page as RUN.html; as `write_page`."""
    return write_page(
        folder,
        page.run,
        "report.html.jinja",
        kind=page.kind,
        title=page.title,
        facts=page.facts,
        page=page,
        classes=_class_lines(page, album),
        left_out=_left_out(page),
        shelves=album.shelves(),
        looked_at=album.rows,
        link=page.link,
    )


def write_page(folder: Path, name: str, template: str, **shown: Any) -> Path:
    """Write NAME.html, readable by its owner alone: it shows people's pictures.

    `shown` is what the template speaks of; `kind`, `title` and `facts`, names and values, stand at the top.
    Raises PermanentUsageError where it cannot be written; half a page is never left there.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autolabel", ""),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["hex_color"] = hex_color
    html = environment.get_template(template).render(name=name, **shown)
    path = folder / f"{name}.html"
    half = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        half.touch(mode=0o600)
        half.write_text(html, encoding="utf-8")
        return half.replace(path)
    except OSError as error:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise PermanentUsageError(f"the report {path} cannot be written: {error.strerror}") from error


def _class_lines(page: Page, album: Album) -> list[_ClassLine]:
    colors = {item.feature_hash: hex_color(item.color) for item in page.classes}
    lines = []
    for cls in page.recipe.plan.classes:
        key = cls.feature_hash
        dropped = tuple(f"left out: {counted[key]} {what}" for counted, what in page.dropped if counted.get(key))
        scores = album.scores[key].counts if key in album.scores else [0] * BINS
        lines.append(_ClassLine(cls, colors.get(key, hex_color("")), page.objects.get(key, 0), dropped, scores))
    return sorted(lines, key=lambda line: -line.count)


def _left_out(page: Page) -> str:
    return ", ".join(f"{sum(counted.values())} {why}" for counted, why in page.dropped if counted)


def push_page(
    project: Project, recipe: Recipe, summary: Mapping[str, Any], messages: Sequence[str], domain: str
) -> Page:
    """The page of a push or a publish. `summary` is what `sync.Run.summary` gives; `domain` is the API's address."""
    destination = summary["destination"]
    return Page(
        kind="Push report",
        title=project.title,
        run=summary["run"],
        facts=[
            ("run", summary["run"]),
            ("to", f"branch {recipe.branch}" if destination == Destination.BRANCH else destination),
            ("recipe", recipe.id[:8]),
            ("project", project.project_hash),
            ("autolabel", version("autolabel")),
            *_speed(summary["speed"]),
            *([("models", "by transformers' own code (--reference)")] if summary["reference"] else []),
        ],
        rows=row_lines(summary),
        rows_title="label rows",
        objects=summary["objects"],
        objects_title="objects written",
        dropped=dropped(summary),
        classes=project.classes,
        recipe=recipe,
        next_steps=_next_steps(summary, recipe),
        messages=messages,
        link=lambda row: editor_url(domain, project.project_hash, row.data_hash),
    )


def preview_page(
    preview_id: str, project: Project, recipe: Recipe, tally: Tally, domain: str, unseen: Mapping[str, int]
) -> Page:
    """The page of a preview; of files that no platform has, the project has no hash.

    `unseen`: why rows were not looked at -> how many.
    """
    lines = [
        (tally.labelled, "with objects found"),
        (tally.empty, "nothing found"),
        *((count, f"not to be used: {REASON_TEXT[Reason(why)]}") for why, count in tally.set_aside.items()),
        *((count, why) for why, count in unseen.items()),
    ]
    return Page(
        kind="Preview",
        title=project.title,
        run=preview_id,
        facts=[
            ("preview", preview_id),
            ("recipe", recipe.id[:8]),
            ("autolabel", version("autolabel")),
            *_speed(tally.speed),
        ],
        rows=[(count, text) for count, text in lines if count],
        rows_title="label rows" if project.project_hash else "files",
        objects=tally.objects,
        objects_title="objects found, nothing written",
        dropped=dropped(vars(tally)),
        messages=tally.messages,
        classes=project.classes,
        recipe=recipe,
        next_steps=[("Nothing was written. To see what a push would do:", _dry_run(project))]
        * bool(project.project_hash),
        link=lambda row: editor_url(domain, project.project_hash, row.data_hash) if project.project_hash else None,
    )


def _speed(speed: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(SPEED, text)] if (text := speed_text(speed)) else []


def _dry_run(project: Project) -> str:
    return f"autolabel push --project {project.project_hash} --dry-run"


def dropped(counts: Mapping[str, Any]) -> list[tuple[Mapping[str, int], str]]:
    """What a run found and left out by class, with what it was in words; of `Run.summary` or a tally's fields."""
    return [
        (counts["dropped_by_cap"], "detections over the cap"),
        (counts["dropped_without_mask"], "detections without a mask"),
        (counts["dropped_short_tracks"], "objects seen on too few frames of a video"),
    ]


def _next_steps(summary: Mapping[str, Any], recipe: Recipe) -> Steps:
    """A push to a branch is published by a command; one to main is taken back by one, where nobody touched it."""
    if not summary["labelled"]:
        return []
    if summary["destination"] == Destination.BRANCH:
        return [
            (
                f"Only the label branch {recipe.branch} was written. To copy its rows to main, where main has none:",
                f"autolabel publish --run {summary['run']}",
            ),
        ]
    copied = f"; the branch {recipe.branch} holds them as they were written, under the same object hashes"
    return [
        (
            f"These labels are on main{copied if summary['destination'] == Destination.MAIN else ''}. What became of "
            "every row, and which runs there were:",
            "autolabel status",
        ),
        ("To see what could be taken back:", f"autolabel undo --run {summary['run']}"),
    ]


def row_lines(summary: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(rows, what became of them) in words; the rows add up to the project's total."""
    lines = [
        (summary["labelled"], "labelled by this run"),
        (summary["empty"], "nothing found, nothing written"),
        (summary["done_before"], "done by earlier runs"),
        *((count, f"left alone: {REASON_TEXT[Reason(why)]}") for why, count in summary["left_alone"].items()),
        *((count, f"set aside: {REASON_TEXT[Reason(why)]}") for why, count in summary["set_aside"].items()),
        *((count, f"taken or settled meanwhile by {run}") for run, count in summary["elsewhere"].items()),
        *((count, f"held back: {LIMIT_TEXT[Limit(why)]}") for why, count in summary["held_back"].items()),
        (summary["pending"] - sum(summary["held_back"].values()), "wait for the next run"),
    ]
    return [(count, text) for count, text in lines if count]


def editor_url(domain: str, project_hash: str, data_hash: str) -> str | None:
    """Where the platform's editor opens a row: beside `api.HOST` it is `app.HOST`; other addresses have none."""
    host = urlsplit(domain).netloc
    if not host.startswith("api."):
        return None
    where = "/".join(quote(part, safe="") for part in (project_hash, data_hash))
    return f"https://app.{host.removeprefix('api.')}/label_editor/{where}/0"
