"""`autolabel review`: parse, call one function, print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from autolabel.logs import keep
from autolabel.settings import forget_secrets, read_settings

if TYPE_CHECKING:
    from autolabel.review import Fates, Review

COLUMNS = ("proposed", "kept", "edited", "deleted", "other class", "added")


def review(
    run: Annotated[str, typer.Option(help="Id of a run whose labels people have worked on.")],
    all_runs: Annotated[
        bool, typer.Option("--all-runs", help="All runs of its project, recipe and destination: cron makes many.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what people made of a run's labels, by class and person, and the time they saved. Reads the platform only.

    Of rows that people have finished. Time needs rows to compare with: see AUTOLABEL_HOLDOUT.
    """
    from autolabel.bootstrap import run_review
    from autolabel.home import report_folder
    from autolabel.review import describe
    from autolabel.review_report import write_review

    settings = read_settings()
    forget_secrets()
    keep(settings.home)
    found = run_review(settings, run, all_runs=all_runs)
    page = write_review(report_folder(settings), found)
    if as_json:
        typer.echo(json.dumps(describe(found) | {"report": str(page)}))
        return
    for line in _lines(found):
        typer.echo(line)
    typer.echo(f"report: {page}")


def _lines(review: Review) -> list[str]:
    """What a person reads: classes, time, rows, and how far that goes."""
    from autolabel.review import UNSEEN, WHO

    runs = f"run {review.runs[0]}" if len(review.runs) == 1 else f"{len(review.runs)} runs"
    lines = [f"{review.project.title}: {runs}, {_counted(review.reviewed_rows, 'row')} finished by people", ""]
    if review.reviewed_rows:
        listed = [(cls.name, cls.fates, cls.edit_iou) for cls in review.classes if cls.fates.total]
        lines += _table("class", [*listed, ("all", review.fates, review.edit_iou)])
        lines += [
            "",
            *_table("person", [(who or "not known", fates, None) for who, fates in review.by_person.items()]),
        ]
    if review.unasked:
        lines += ["", f"besides, people drew {review.unasked} objects of classes that the recipe does not look for"]
    lines += ["", f"time: {review.time_text}", ""]
    lines += [f"{count:>7}  {text}" for count, text in review.rows]
    return [*lines, "", WHO, UNSEEN, *review.messages]


def _table(what: str, rows: list[tuple[str, Fates, float | None]]) -> list[str]:
    """Aligned columns; shares are of what was proposed."""
    cells = [(what, *COLUMNS), *((name, *_cells(fates, iou)) for name, fates, iou in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        )
        for first, *rest in cells
    ]


def _cells(fates: Fates, edit_iou: float | None) -> list[str]:
    def share(count: int) -> str:
        return f"{count / fates.proposed:.0%}" if fates.proposed else "-"

    return [
        str(fates.proposed),
        share(fates.kept),
        share(fates.edited) + (f" (IoU {edit_iou:.2f})" if edit_iou is not None else ""),
        share(fates.deleted),
        share(fates.other_class),
        str(fates.added),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
