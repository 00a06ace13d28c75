"""No secret in any line that leaves this program: keys, tokens, passwords, and the queries of signed URLs."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

GONE = "[redacted]"

_NAMES = r"""(?: authorization | proxy-authorization | cookie | set-cookie
  | (?:x-encord-)?signature(?:-input)? | sig | hmac
  | (?:[\w-]*[_-])?(?:token|secret|password|passphrase|credentials?|api[_-]?key|ssh_key)
  | x-(?:amz|goog)-[\w-]+ )"""
_PARAMETERS = r"(?: awsaccesskeyid | googleaccessid | key-pair-id | policy | expires )"
_QUOTED = r"""(?P<quote>['"])(?:\\.|(?!(?P=quote)).)*"""
_PATTERNS = tuple(
    (re.compile(pattern, flags | re.IGNORECASE | re.VERBOSE), instead)
    for pattern, flags, instead in (
        # A private key, also one whose line ends are written as \n, and one that was cut off at either end.
        (r"-----BEGIN[ ][^-]*KEY-----.*?(?:-----END[ ][^-]*KEY-----|\Z)", re.DOTALL, GONE),
        (r"b3BlbnNzaC1rZXktdjE[a-z0-9+/=]*(?:(?:\s|\\n)+[a-z0-9+/=]{20,})*", 0, GONE),
        # scheme://user:password@host; a password may hold an @ that nobody escaped.
        (r"(://[^\s/:@'\"]*:)[^\s'\"]+@", 0, rf"\1{GONE}@"),
        # All of a query, whatever its parameters are called: each store signs in a way of its own.
        (r"(\?|%3F)[^\s'\"<>?]*(?:=|%3D)[^\s'\"<>]*", 0, rf"\1{GONE}"),
        (r"\b(bearer|basic)\s+[^\s'\",;]+", 0, rf"\1 {GONE}"),
        # name=value or name: value, a quoted value to its end; of an Authorization all that stands on its line.
        (r"(\bauthorization\s*[:=]\s*)[^\s'\"][^\n'\"]*", 0, rf"\1{GONE}"),
        (rf"(?<![\w-])({_NAMES}['\"]?\s*[:=]\s*)(?:{_QUOTED}|[^\s'\",;&<>)}}]+)", 0, rf"\1{GONE}"),
        (rf"(?<![\w-])({_PARAMETERS}['\"]?\s*=\s*)[^\s'\",;&<>)}}]+", 0, rf"\1{GONE}"),
    )
)


def redact(text: str) -> str:
    """`text` with GONE in the place of all that may be a secret."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


class CleanEvent(dict[str, Any]):
    """Names and values of a log line of ours, in which no secret is left."""


class _CleanRecord(logging.LogRecord):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.msg, CleanEvent):
            return
        try:
            message = self.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong call ends no program here either
            message = f"{self.msg} {self.args}"
        self.msg, self.args = redact(message), ()
        if self.exc_info:
            self.exc_text = redact("".join(traceback.format_exception(*self.exc_info)).rstrip("\n"))
            self.exc_info = None
        if self.stack_info:
            self.stack_info = redact(self.stack_info)


def install() -> None:
    """Make every log record of this process clean as it is made, whoever logs it and whatever handles it.

    A filter on a logger would miss what its children log, one on the handlers those that are added later.
    """
    logging.setLogRecordFactory(_CleanRecord)
