"""Log lines: what they say, where they go, and that none of them holds a secret or breaks what it tells of.

Every line goes to a file a day, as JSON, once `keep` has named the place. On stderr there are our warnings and all
errors, of `serve` all lines: human ones on a terminal, else JSON. Nothing goes to stdout, which belongs to results.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

from autolabel import redaction
from autolabel.redaction import GONE, CleanEvent, redact

KEEP_DAYS = 30
DEEPEST = 4
LONGEST = 4000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_about: Mapping[str, str] = {}
"""Never changed, only replaced: another thread may be reading it."""
_ADDRESS_AT_END = re.compile(r"://[^\s'\"]*\Z")
_OURS = logging.getLogger("autolabel")

Event = MutableMapping[str, Any]


def get_logger(name: str) -> BoundLogger:
    """A module's logger: `logger.info("row", run=..., row=..., state=...)`. Without `install` it says nothing."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def install(level: int = logging.WARNING) -> None:
    """Take over all lines of this process, ours and those of libraries, as it begins; `keep` comes after it.

    `level`: from which on ours go to stderr. What libraries warn of, such as each try of a request, goes there only
    where ours go from INFO on: cron mails every line.
    """
    redaction.install()
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # a full disk or a closed stderr is no reason to write a traceback there
    on_stderr = logging.StreamHandler(sys.stderr)
    on_stderr.setLevel(level)
    if level >= logging.WARNING:
        on_stderr.addFilter(lambda record: record.name.startswith("autolabel") or record.levelno >= logging.ERROR)
    on_stderr.setFormatter(_formatter(is_human=sys.stderr.isatty()))
    logging.basicConfig(handlers=[on_stderr], level=logging.WARNING, force=True)
    _OURS.setLevel(level)


def keep(home: Path) -> None:
    """Also write every line to `home`/logs, into the day's file; those of the last KEEP_DAYS stay.

    A home that is not there yet is made with the first line, for its owner alone.
    """
    in_file = _DayFiles(home / "logs")
    in_file.setFormatter(_formatter(is_human=False))
    logging.getLogger().addHandler(in_file)
    _OURS.setLevel(logging.INFO)


@contextmanager
def about(**names: str) -> Iterator[None]:
    """What all lines of this process speak of meanwhile, from any thread: the run, the project."""
    global _about
    before, _about = _about, {**_about, **names}
    try:
        yield
    finally:
        _about = before


class _DayFiles(logging.Handler):
    """A file a day (UTC), readable by its owner alone. Several processes may write: a line is one append."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._day = folder, ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            today = datetime.fromtimestamp(record.created, UTC).date()
            day = today.isoformat()
            if day != self._day:
                self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._folder.mkdir(exist_ok=True, mode=0o700)
                self._forget_before(today - timedelta(days=KEEP_DAYS))
                self._day = day
            line = f"{self.format(record)}\n".encode("ascii", "backslashreplace")
            descriptor = os.open(self._folder / f"{day}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except Exception:  # noqa: BLE001 - no line may end what it tells of
            self.handleError(record)

    def _forget_before(self, first: date) -> None:
        for path in self._folder.glob("????-??-??.jsonl"):
            if path.stem < first.isoformat():
                path.unlink(missing_ok=True)


def _formatter(*, is_human: bool) -> ProcessorFormatter:
    colors = is_human and "NO_COLOR" not in os.environ
    plain = structlog.dev.plain_traceback  # what is shown of an exception is text by then, and clean
    human = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, sort_keys=False)
    renderers = [human] if is_human else [_in_order, structlog.processors.JSONRenderer()]
    return ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level, _stamp, _of_library],
        processors=[ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _in_order(_logger: Any, _method: str, event: Event) -> Event:
    """When, how bad and what come first: people read these files too."""
    return {name: event[name] for name in ("timestamp", "level", "event")} | dict(event)


def _stamp(_logger: Any, _method: str, event: Event) -> Event:
    """When it was, in UTC, and what this process is about."""
    record = event.get("_record")
    moment = datetime.fromtimestamp(record.created, UTC) if record else datetime.now(UTC)
    event["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for name, value in _about.items():
        event.setdefault(name, value)
    return event


def _of_library(_logger: Any, _method: str, event: Event) -> Event:
    """A record of the standard library's logging is clean since it was made; its traceback is text."""
    if event["_record"].exc_text:
        event["exception"] = event["_record"].exc_text
    event["event"] = _printable(event["event"])
    return event


def _clean(_logger: Any, _method: str, event: Event) -> Event:
    """Of a traceback all stays: what happened comes last in it."""
    trace = event.pop("exception", None)
    told = _plain(event)
    return CleanEvent(told | {"exception": _printable(redact(trace))} if trace else told)


@lru_cache(maxsize=1000)
def _is_secret(name: str) -> bool:
    """Whether the value of what is called so never shows."""
    return redact(f"{name}=x") != f"{name}=x"


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can say, with no secret in it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth < DEEPEST:
        names = {key: _text(key) for key in value}
        return {name: GONE if _is_secret(name) else _plain(value[key], depth + 1) for key, name in names.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    try:
        return _told(str(value))
    except Exception:  # noqa: BLE001 - values come from anywhere
        return f"[{type(value).__name__} that cannot be shown]"


@lru_cache(maxsize=1000)  # a run's lines say the same names, and each row's, again and again
def _told(text: str) -> str:
    return _printable(redact(_cut(text)))


def _cut(text: str) -> str:
    """At most LONGEST characters: a hostile value would take minutes to be redacted.

    Of an address that would be cut through nothing stays: its password is known by the @ behind it.
    """
    if len(text) <= LONGEST:
        return text
    begin = _ADDRESS_AT_END.sub("", text[:LONGEST])
    return f"{begin} [{len(text) - len(begin)} more characters]"


def _printable(text: str) -> str:
    """Names come from outside: none moves a terminal's cursor."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _stamp,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _clean,
        ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
)
