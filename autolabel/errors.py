"""Every error that this program raises on purpose.

    AutolabelError
    ├── PermanentError                 trying again changes nothing
    │   ├── PermanentUsageError        the request itself is off: option, URL, config, workflow   (exit 2)
    │   ├── PermanentAccessError       key unknown, or no right to this project                   (exit 1)
    │   ├── PermanentNotFoundError     the project, row or item is not there                      (exit 1)
    │   ├── PermanentRejectedError     the platform understood a request and refuses it           (exit 1)
    │   │   └── PermanentTooLargeError     413: fewer rows at once may pass                       (row)
    │   ├── PermanentMediaError        a row's picture cannot be used; carries a reason           (row)
    │   ├── PermanentModelError        weights missing or damaged                                 (exit 1)
    │   ├── PermanentInferenceError    the models cannot answer some pictures                     (row)
    │   │   └── PermanentOutOfMemoryError  the device has no memory for so many at once           (row)
    │   ├── PermanentDiskError         no room on the disk                                        (exit 1)
    │   ├── PermanentLedgerError       the ledger cannot be trusted: schema, disk, corruption     (exit 1)
    │   ├── PermanentCallError         a webhook is forged, stale, too large or makes no sense    (4xx)
    │   └── PermanentFloodError        too many frames hit a class's cap; nothing was written     (exit 1)
    └── TransientError                 the next run may well succeed
        ├── TransientServiceError      5xx, reset, time-out, answer that is no JSON               (exit 75)
        ├── TransientRateLimitError    429; carries the wait that was asked for                   (exit 75)
        ├── TransientOutageError       no use asking on: down, or a wait that no run waits for    (exit 75)
        ├── TransientMediaError        a row's file is not to be had now, though others are       (row)
        ├── TransientWorkerDiedError   the inference process ended without an answer, or hung     (row)
        ├── TransientLedgerError       another process does not let go of the ledger               (exit 75)
        └── TransientBusyError         another run holds the project and does the work            (exit 0)

A message says what happened to which row, that nothing was lost where that is so, and what to do next.
"""

from __future__ import annotations

import os
import tempfile
import traceback

from autolabel.redaction import redact


class AutolabelError(Exception):
    """Base of all. The command line ends with `exit_code`, and says `advice` after the message.

    A message may go anywhere: to a screen, the ledger, a report. So no secret gets into one.
    """

    exit_code = 1
    advice = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class Interrupted(BaseException):
    """SIGINT or SIGTERM. No `except` for errors may swallow it, hence not an AutolabelError."""


class PermanentError(AutolabelError):
    """Trying the same again cannot help."""


class PermanentUsageError(PermanentError):
    exit_code = 2


class PermanentAccessError(PermanentError):
    advice = (
        "Nothing is lost; check that the key is registered there and that its owner may label in this project and "
        "see its files"
    )


class PermanentNotFoundError(PermanentError):
    advice = "Nothing is lost; check the hash and ENCORD_DOMAIN"


class PermanentRejectedError(PermanentError):
    advice = "Nothing is lost; `autolabel status` shows where each row stands"


class PermanentTooLargeError(PermanentRejectedError):
    pass


class PermanentMediaError(PermanentError):
    """A row's media cannot be used. `reason` is the short word kept in the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[PermanentMediaError], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class PermanentModelError(PermanentError):
    pass


class PermanentInferenceError(PermanentError):
    pass


class PermanentOutOfMemoryError(PermanentInferenceError):
    pass


class PermanentDiskError(PermanentError):
    advice = "Nothing is lost; make room there and run again, the next run goes on from here"


class PermanentLedgerError(PermanentError):
    pass


class PermanentCallError(PermanentError):
    """A webhook is refused. `status` is what it is answered with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PermanentFloodError(PermanentError):
    pass


class TransientError(AutolabelError):
    """The next try may succeed."""

    exit_code = 75
    advice = "Nothing is lost; try again later, the next run goes on from here"


class TransientServiceError(TransientError):
    pass


class TransientRateLimitError(TransientError):
    """`retry_after_s` is what the server asked for, None when it gave no number."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TransientOutageError(TransientError):
    """Nothing that has to do with the platform can go on in this run."""


class TransientMediaError(TransientError):
    pass


class TransientWorkerDiedError(TransientError):
    pass


class TransientLedgerError(TransientError):
    pass


class TransientBusyError(TransientError):
    exit_code = 0
    advice = ""

    def __init__(self, holder: str) -> None:
        super().__init__(f"{holder} does the work; nothing was done here")
        self.holder = holder


def in_words(error: Exception) -> str:
    """One line for people: what happened and what to do; of a bug, where its traceback lies."""
    if isinstance(error, AutolabelError):
        return f"{error}. {error.advice}" if error.advice else str(error)
    return f"this is a bug ({type(error).__name__}); nothing is lost. Please report {keep_trace(error)}"


def exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, AutolabelError) else AutolabelError.exit_code


def keep_trace(error: Exception) -> str:
    """The traceback for a bug report, in a file of the user's own: it may name rows, but no secret.

    The file's name; where none can be written, the error itself.
    """
    trace = redact("".join(traceback.format_exception(error)))
    try:
        descriptor, name = tempfile.mkstemp(prefix="autolabel-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(trace)
    except OSError:
        return trace.strip().splitlines()[-1]
    return name
