"""The entry point, `autolabel` or `python -m autolabel`: signals, and how errors end."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from autolabel.cli import app
from autolabel.errors import Interrupted, TransientError, exit_code, in_words
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
    except Exception as error:  # noqa: BLE001 - the last resort: a bug ends in one line too
        _fail(in_words(error), exit_code(error))


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupted


def _fail(message: str, code: int) -> NoReturn:
    logger.info("ended", error=message, exit_code=code)
    typer.echo(redact(f"{'error: ' if code else ''}{message}"), err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
