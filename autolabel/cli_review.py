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
    for line in lines(found):
        typer.echo(line)
    typer.echo(f"report: {page}")


def lines(review: Review) -> list[str]:
    """What a person reads: classes, time, rows, and how far that goes."""
    from autolabel.review import UNSEEN, WHO
    from autolabel.review_report import counted

    runs = f"run {review.runs[0]}" if len(review.runs) == 1 else f"{len(review.runs)} runs"
    told = [f"{review.project.title}: {runs}, {counted(review.reviewed_rows, 'row')} finished by people"]
    caveats: list[str] = []
    if review.reviewed_rows:
        caveats = ["", WHO, UNSEEN]
        listed = [(cls.name, cls.fates, cls.edit_iou) for cls in review.classes if cls.fates.total]
        told += ["", *_table("class", [*listed, ("all", review.fates, review.edit_iou)])]
        told += [
            "",
            *_table("person", [(who or "not known", fates, None) for who, fates in review.by_person.items()]),
        ]
    if review.unasked:
        unasked = counted(review.unasked, "object")
        told += ["", f"besides, people drew {unasked} of classes that the recipe does not look for"]
    told += ["", f"time: {review.time_text}", ""] if review.reviewed_rows else [f"time: {review.time_text}"]
    told += [f"{count:>7}  {text}" for count, text in review.rows]
    return [*told, *caveats, *review.messages]


def _table(what: str, rows: list[tuple[str, Fates, float | None]]) -> list[str]:
    """Aligned columns; shares are of what was proposed, and counts where that is too few."""
    cells = [(what, *COLUMNS), *((name, *_cells(fates, iou)) for name, fates, iou in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        )
        for first, *rest in cells
    ]


def _cells(fates: Fates, edit_iou: float | None) -> list[str]:
    return [
        str(fates.proposed),
        fates.told(fates.kept),
        fates.told(fates.edited) + (f" (IoU {edit_iou:.2f})" if edit_iou is not None else ""),
        fates.told(fates.deleted),
        fates.told(fates.other_class),
        str(fates.added),
    ]
