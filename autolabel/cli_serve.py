"""`autolabel serve`: parse, call one function, print."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from autolabel.logs import keep
from autolabel.settings import forget_secrets, read_settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback is told what it exposes.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8765,
) -> None:
    """Serve webhooks: each wakes a run of its project, in a process that keeps its models for a while.

    Projects are named in AUTOLABEL_PROJECTS, secrets in ENCORD_WEBHOOK_SECRET_FILE and AUTOLABEL_BUCKET_SECRET_FILE.
    """
    from autolabel.service.serve import serve as run

    settings = read_settings()
    forget_secrets()
    keep(settings.home)
    run(settings, host, port, typer.echo, partial(typer.echo, err=True))
