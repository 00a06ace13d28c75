"""`autolabel models`: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.settings import read_settings

models = typer.Typer(no_args_is_help=True, help="List, download and check the weights of detectors and segmenters.")

Config = Annotated[str | None, typer.Option(help="All weights of this recipe [AUTOLABEL_CONFIG].")]


@models.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show published weights: family, licence, size, [shipped configs], and where they lie here. No network."""
    from autolabel.stock import holdings

    rows = holdings()
    if as_json:
        listed = [
            asdict(row.published) | {"place": row.place and str(row.place), "configs": row.configs} for row in rows
        ]
        typer.echo(json.dumps({"models": listed}))
        return
    for row in rows:
        item = row.published
        licence = f"{item.licence}{', gated' * item.is_gated}"
        configs = f" [{', '.join(row.configs)}]" if row.configs else ""
        here = "here" if row.place else "-"
        typer.echo(
            f"{here:<5} {item.family:<17} {licence:<18} {item.size_mb:>5} MB  {item.weights}{configs}: {item.use}"
        )
        if row.place:
            typer.echo(f"      at {row.place}")


@models.command()
def pull(
    weights: Annotated[str | None, typer.Argument(metavar="[WEIGHTS]", help="A hub id.")] = None,
    config: Config = None,
) -> None:
    """Download weights into the hub's cache, so that runs need no network; says size and licence before."""
    from autolabel.models.weights import find, is_hub_id

    for name in _chosen(weights, config):
        typer.echo(f"{name}: at {_completed(name) if is_hub_id(name) else find(name)}")


@models.command()
def verify(
    weights: Annotated[
        str | None, typer.Argument(metavar="[WEIGHTS]", help="A hub id, a folder, or a .pth file.")
    ] = None,
    config: Config = None,
) -> None:
    """Read weights that are here from end to end, and compare them with the hub's digests. No network; loads nothing.

    Prints each file's SHA-256, and the digest that enters the id of a recipe.
    """
    from autolabel.models.weights import State, is_hub_id
    from autolabel.stock import check

    for name in _chosen(weights, config):
        checked = check(name)
        for file in checked.files:
            typer.echo(f"{file.state:<12} {file.sha256} {file.path.name}")
        damaged = [file.path for file in checked.files if file.state == State.DAMAGED]
        if damaged:
            how = f": `autolabel models pull {name}`" if is_hub_id(name) else ""
            raise PermanentModelError(f"{name} is damaged: delete {damaged[0].resolve()} and get it anew{how}")
        typer.echo(f"{name}: digest {checked.digest}")


def _chosen(weights: str | None, config: str | None) -> list[str]:
    from autolabel.stock import weights_of

    if weights is not None and config is not None:
        raise PermanentUsageError("give either weights or --config")
    return [weights] if weights is not None else weights_of(config or read_settings().config)


def _completed(hub_id: str) -> Path:
    """What is here may have been left half by something else, so the hub is asked in any case."""
    from autolabel.models.weights import download, find
    from autolabel.stock import describe

    place = find(hub_id)
    typer.echo(f"{hub_id}: {describe(hub_id)}; {'asking the hub whether all is here' if place else 'downloading'}")
    try:
        return download(hub_id, is_quiet=not sys.stderr.isatty())
    except PermanentModelError as error:
        if place is None:
            raise
        typer.echo(f"what is here was left as it is, since the hub does not answer: {error}", err=True)
        return place
