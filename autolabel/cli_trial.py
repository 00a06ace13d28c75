"""`autolabel trial`: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autolabel.errors import PermanentUsageError
from autolabel.logs import keep
from autolabel.settings import Settings, forget_secrets, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autolabel.trial import Trial, Versus


def trial(
    project: Annotated[str, typer.Option(help="Project hash, or its URL.")],
    rows: Annotated[int, typer.Option(min=2, help="Judge by at most this many finished rows.")] = 50,
    stage: Annotated[
        str | None,
        typer.Option(help="Stage where finished rows are (left out: where tasks are complete)."),
    ] = None,
    variants: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A.yaml B.yaml", help="Compare two prompt maps on the same rows."),
    ] = None,
    write_map: Annotated[
        bool,
        typer.Option("--write-map", help="Put thresholds, calibration and what is off into the recipe's prompt map."),
    ] = False,
    config: Annotated[str | None, typer.Option(help="Recipe: a name or a YAML file [AUTOLABEL_CONFIG].")] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Run the models by transformers' own code: slow, to compare with.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write the map without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say which classes are worth pre-labelling here, by rows that people have finished; writes nothing there.

    Runs the recipe on them and holds what it finds against what people drew: precision, recall, the threshold that
    saves most, the seconds it saves. One page, to open or forward.
    """
    from autolabel.console import progress
    from autolabel.glances import open_finished, run_trials
    from autolabel.map_edits import editable_map
    from autolabel.recipe import load_config
    from autolabel.trial import versus

    if write_map and variants:
        raise PermanentUsageError("--write-map takes what one prompt map comes to; leave out --variants")
    if write_map and not yes and (as_json or not sys.stdin.isatty()):
        raise PermanentUsageError("nobody is here to confirm a new prompt map: give --yes, or no --write-map")
    settings = read_settings().model_copy(update={"config": config} if config else {})
    forget_secrets()
    keep(settings.home)
    map_path = editable_map(load_config(settings.config).prompt_map) if write_map else None
    maps: tuple[str, ...] | tuple[None] = variants or (None,)
    finished, source = open_finished(settings, project, stage, rows)
    trials = run_trials(settings, finished, source, maps, progress, is_reference=reference)
    _tell(settings, trials, versus(_short(*variants), (trials[0], trials[1])) if variants else None, as_json=as_json)
    if map_path:
        _edit_map(map_path, trials[0], yes=yes, as_json=as_json)


def _short(a: str, b: str) -> tuple[str, str]:
    """How two prompt maps are called: by their files' names, where these differ."""
    names = PurePath(a).name, PurePath(b).name
    return names if names[0] != names[1] else (a, b)


def _tell(settings: Settings, trials: Sequence[Trial], compared: Versus | None, *, as_json: bool) -> None:
    from autolabel.home import report_folder
    from autolabel.trial import described, plain
    from autolabel.trial_report import write_trial, write_versus

    folder = report_folder(settings)
    pages = [write_trial(folder, each, settings.domain) for each in trials]
    if compared:
        pages.append(write_versus(folder, compared))
    if as_json:
        differences = {"names": compared.names, "differences": plain(compared.differences)} if compared else {}
        told = {"trials": [described(each) for each in trials], **differences, "reports": list(map(str, pages))}
        typer.echo(json.dumps(told))
        return
    if compared:
        for line in versus_lines(compared):
            typer.echo(line)
    else:
        _print_trial(trials[0])
    typer.echo(f"report: {pages[-1]}")


def _print_trial(trial: Trial) -> None:
    """The words that a labelling lead reads first, then the classes that figures stand behind."""
    from autolabel.console import out, print_counts
    from autolabel.trial_report import headline, told_lines

    for sentence in headline(trial):
        out.print(escape(sentence))
    out.print()
    for line in told_lines(trial):
        objects = f"{line.it.objects} objects in {line.it.rows} rows"
        out.print(f"{escape(line.it.plan.name)} ({objects}, threshold now {line.it.plan.threshold:.2f}): ", end="")
        out.print(escape("; ".join(line.words)))
    out.print(f"\n{escape(trial.project.title)}, stage {escape(trial.stage)}")
    print_counts(trial.rows)
    if trial.prelabelled:
        out.print(
            f"{trial.prelabelled} of the judged rows held pre-labels before, which flatters what finds them again"
        )


def versus_lines(versus: Versus) -> list[str]:
    """A line a class, all together first; also of classes that only one of the maps looks for."""
    from autolabel.evaluation.values import TooFew

    names = {cls.feature_hash: cls.name for cls in versus.trials[0].project.classes} | {"": "all classes together"}
    return [
        f"{names[key]}: {f'cannot be told yet: {found}' if isinstance(found, TooFew) else found.text}"
        for key, found in sorted(versus.differences.items(), key=lambda entry: entry[0] != "")
    ]


def _edit_map(path: Path, trial: Trial, *, yes: bool, as_json: bool) -> None:
    from autolabel.map_edits import propose, write
    from autolabel.trial import map_edits

    edits = map_edits(trial)
    is_calibrated = any(edit.calibration for edit in edits)
    proposal = propose(path, edits, trial.recipe.scoring_id if is_calibrated else None)
    if not proposal.diff:
        typer.echo(f"{path} says all that already; nothing was changed", err=True)
        return
    typer.echo(proposal.diff, err=as_json)
    if yes or typer.confirm(f"Write this into {path}?"):
        write(proposal)
        typer.echo(f"wrote {path}", err=as_json)
