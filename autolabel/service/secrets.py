"""The secrets that webhooks are signed with: from the environment, and from files, read again as they change."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from autolabel.errors import PermanentUsageError
from autolabel.logs import get_logger
from autolabel.service.signatures import ENCORD, STANDARD, Scheme
from autolabel.settings import Settings

GRACE_S = 2.0
"""How long what a file held before it changed is valid yet: it may have been read half-written."""
MAX_FILE_BYTES = 64 << 10

_log = get_logger(__name__)


@dataclass(frozen=True)
class Secrets:
    """The keys of each route."""

    encord: KeyRing
    bucket: KeyRing


def open_secrets(settings: Settings) -> Secrets:
    """Raises PermanentUsageError where a file cannot be read or what is set is no secret."""
    return Secrets(
        encord=KeyRing(settings.webhook_secret, settings.webhook_secret_file, ENCORD),
        bucket=KeyRing(settings.bucket_secret, settings.bucket_secret_file, STANDARD),
    )


class KeyRing:
    """What calls are verified with: keys that were set and those that a file holds now; none where neither is.

    A file that cannot be used any more changes nothing: its last good keys stay, and the trouble is logged once.
    """

    def __init__(
        self,
        given: SecretStr | None,
        path: Path | None,
        scheme: Scheme,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises PermanentUsageError for what cannot be used."""
        self.scheme, self._path, self._clock = scheme, path, clock
        self._stamp: tuple[int, ...] | None = None
        self._trouble: str | None = None
        self._leaving: dict[bytes, float] = {}  # key that the file no longer holds -> until when it is valid
        self._grace_until_s = 0.0
        try:
            self._given = tuple(map(scheme.key, given.get_secret_value().split())) if given else ()
        except ValueError as error:
            raise PermanentUsageError(
                f"a webhook secret that is set in the environment is off: {_plain(error)}"
            ) from None
        try:
            self._held = self._read() if path else ()
        except (OSError, ValueError) as error:
            raise PermanentUsageError(f"the file of webhook secrets {path} cannot be used: {_plain(error)}") from None

    def current(self) -> tuple[bytes, ...]:
        """One `stat` a call. Never raises."""
        if self._path is None:
            return self._given
        now_s = self._clock()
        try:
            # A file may change twice within one tick of its time stamp, so for a while it is read in any case.
            held = (
                self._read()
                if now_s < self._grace_until_s or _stamp(self._path.stat()) != self._stamp
                else self._held
            )
            self._trouble = None
        except (OSError, ValueError) as error:
            held = self._held
            self._warn(_plain(error))
        if held != self._held:
            self._grace_until_s = now_s + GRACE_S
            self._leaving |= dict.fromkeys(self._held, self._grace_until_s)
            self._held = held
        self._leaving = {key: until_s for key, until_s in self._leaving.items() if now_s < until_s}
        return tuple(dict.fromkeys([*self._given, *self._held, *self._leaving]))

    def _read(self) -> tuple[bytes, ...]:
        assert self._path is not None
        about = self._path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE_BYTES:
            raise ValueError("it is no file of a few lines")
        lines = [line.strip() for line in self._path.read_text("utf-8").splitlines()]
        keys = tuple(self.scheme.key(line) for line in lines if line and not line.startswith("#"))
        if not keys:
            raise ValueError("it holds no secret")
        self._stamp = _stamp(about)
        return keys

    def _warn(self, why: str) -> None:
        if why != self._trouble:
            self._trouble = why
            _log.warning("secrets kept as they were", file=str(self._path), why=why)


def _stamp(about: os.stat_result) -> tuple[int, ...]:
    return (about.st_mtime_ns, about.st_size, about.st_ino)


def _plain(error: OSError | ValueError) -> str:
    """Nothing of what the file holds: a UnicodeDecodeError would show it."""
    if isinstance(error, UnicodeError):
        return "it is no UTF-8 text"
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
