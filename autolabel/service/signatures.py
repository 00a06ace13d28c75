"""Whether a webhook was sent by whoever holds a secret, and what it is known by when it comes again. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolabel.errors import PermanentCallError

TOLERANCE_S = 300
"""How far a signed time may be from now, either way."""

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Names in any case, and values, as they came."""

_SIGNATURE, _TIMESTAMP = b"x-encord-signature", b"x-encord-timestamp"
_ID, _SENT_AT, _SIGNATURES = b"webhook-id", b"webhook-timestamp", b"webhook-signature"
_WHOLE_SECONDS = re.compile(rb"[0-9]{1,15}")


@dataclass(frozen=True)
class Scheme:
    """A way of signing calls.

    - `key`: a secret as people are given it -> key; raises ValueError, which does not repeat the secret.
    - `verify`: (headers, body, keys, now in seconds) -> digest of what was signed with one of the keys; raises
      PermanentCallError (401) for anything else.
    """

    key: Callable[[str], bytes]
    verify: Callable[[RawHeaders, bytes, Sequence[bytes], float], str]


def verify_encord(headers: RawHeaders, body: bytes, keys: Sequence[bytes], now_s: float) -> str:
    """Encord's scheme, see `Scheme.verify`."""
    _check_known(headers)
    stamp = _stamp(headers, _TIMESTAMP, now_s)
    signed = stamp + b"." + body
    given = [_only(headers, _SIGNATURE)]
    return _digest(signed, [hmac.new(key, signed, hashlib.sha256).hexdigest().encode() for key in keys], given)


def verify_standard(headers: RawHeaders, body: bytes, keys: Sequence[bytes], now_s: float) -> str:
    """The Standard Webhooks scheme, see `Scheme.verify`: of several signatures one of version 1 has to hold."""
    stamp = _stamp(headers, _SENT_AT, now_s)
    signed = _only(headers, _ID) + b"." + stamp + b"." + body
    given = [one[3:] for one in _only(headers, _SIGNATURES).split(b" ") if one.startswith(b"v1,")]
    return _digest(signed, [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys], given)


def standard_key(secret: str) -> bytes:
    """The key in a secret like `whsec_<base64>`, see `Scheme.key`."""
    text = secret.removeprefix("whsec_").rstrip("=")  # some leave the padding out
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("a secret like whsec_<base64> is needed")
    return key


ENCORD = Scheme(str.encode, verify_encord)
STANDARD = Scheme(standard_key, verify_standard)


def _check_known(headers: RawHeaders) -> None:
    """A release that is too old for a new kind of signature says so, and blames no secret."""
    names = {name.lower() for name, _ in headers if name.lower().startswith(_SIGNATURE)}
    if names and _SIGNATURE not in names:
        unknown = ", ".join(sorted(_shown(name) for name in names))
        raise _refused(f"unknown signature header {unknown}; this release knows {_shown(_SIGNATURE)}")


def _stamp(headers: RawHeaders, name: bytes, now_s: float) -> bytes:
    stamp = _only(headers, name)
    if not _WHOLE_SECONDS.fullmatch(stamp):
        raise _refused(f"{_shown(name)} is no time in whole seconds")
    if abs(now_s - int(stamp)) > TOLERANCE_S:
        raise _refused(f"{_shown(name)} is more than {TOLERANCE_S} s from now")
    return stamp


def _digest(signed: bytes, expected: Sequence[bytes], given: Sequence[bytes]) -> str:
    """Every signature is held against every secret, so that the time taken tells nothing.

    A digest of the content, not a signature of it: with another secret's signature the same call is still the same.
    """
    if not any([hmac.compare_digest(one, other) for one in expected for other in given]):  # noqa: C419 - no early end
        raise _refused("the signature does not hold: another secret or other content")
    return hashlib.sha256(signed).hexdigest()


def _only(headers: RawHeaders, name: bytes) -> bytes:
    values = [value for key, value in headers if key.lower() == name]
    if len(values) != 1 or not values[0]:
        raise _refused(f"{_shown(name)} is {'missing or empty' if len(values) < 2 else 'there more than once'}")
    return values[0]


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace").title()[:80]


def _refused(why: str) -> PermanentCallError:
    return PermanentCallError(401, why)
