"""The entry point, `autolabel` or `python -m autolabel`: signals, and how errors end."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from typing import NoReturn

import typer

from autolabel.cli import app
from autolabel.errors import AutolabelError, Interrupted, TransientError
from autolabel.logs import get_logger, install
from autolabel.redaction import redact

logger = get_logger("autolabel")


def main() -> None:
    """Entry point: every error ends as one line on stderr and an exit code, never as a traceback."""
    install()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except Interrupted:
        _fail("interrupted; nothing is lost, the next run goes on from here", TransientError.exit_code)
    except AutolabelError as error:
        _fail(f"{error}. {error.advice}" if error.advice else str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug ends in one line too
        _fail(f"this is a bug ({type(error).__name__}); nothing is lost. Please report {_keep_trace()}", 1)


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupted


def _fail(message: str, code: int) -> NoReturn:
    logger.info("ended", error=message, exit_code=code)
    typer.echo(redact(f"{'error: ' if code else ''}{message}"), err=True)
    sys.exit(code)


def _keep_trace() -> str:
    """The traceback for a bug report, in a file of the user's own: it may name rows, but no secret.

    The file's name; where none can be written, the error itself.
    """
    trace = redact(traceback.format_exc())
    try:
        descriptor, name = tempfile.mkstemp(prefix="autolabel-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(trace)
    except OSError:
        return trace.strip().splitlines()[-1]
    return name


if __name__ == "__main__":
    main()
