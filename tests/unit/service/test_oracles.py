"""Random calls, valid and damaged, held against the packages of those who define the signatures."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from types import SimpleNamespace

import pytest
import standardwebhooks
from encord_agents.core import webhooks as encords

from autolabel.errors import PermanentCallError
from autolabel.service.signatures import verify_encord, verify_standard
from webhooks import BUCKET_SECRET, OTHER_SECRET, SECRET, signed, standard_signed

CALLS, SEED, NOW_S = 10_000, 20261121, 1_795_000_000.25
AGES_S = [0, 0, 0, 299, 300, 301, -299, -300, -301, 5000]
Headers = dict[str, str]
Damage = Callable[[random.Random, bytes, Headers], tuple[bytes, Headers]]


def flipped(dice: random.Random, data: bytes) -> bytes:
    if not data:
        return b"x"
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


def other_body(dice: random.Random, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    return flipped(dice, body), headers


def other_header(dice: random.Random, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    name = dice.choice(list(headers))
    return body, headers | {name: flipped(dice, headers[name].encode()).decode("latin-1")}


def odd_header(dice: random.Random, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    name = dice.choice(list(headers))
    value = headers[name]
    odd = ["", "9" * 400, "\xff", "\xb2", value.upper() + "A", value[:-1], value + value, "a,b,c", "v1", "=", "-1"]
    return body, headers | {name: dice.choice(odd)}


def lost_header(dice: random.Random, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    lost = dice.choice(list(headers))
    return body, {name: value for name, value in headers.items() if name != lost}


def no_damage(dice: random.Random, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
    return body, headers


DAMAGES: list[Damage] = [no_damage, no_damage, other_body, other_header, odd_header, lost_header]


def in_latin_1(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


class StoodStill(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(NOW_S, UTC)


def says_yes(check: Callable[[], object], *refusals: type[Exception]) -> bool:
    try:
        check()
    except refusals:
        return False
    return True


def test_encords_own_check_and_ours_give_the_same_answer_on_10_000_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is raised for otherwise, such as a time of 400 digits, ours refuses."""
    monkeypatch.setattr(encords, "time", SimpleNamespace(time=lambda: NOW_S))
    dice, seen = random.Random(SEED), Counter[tuple[bool, bool]]()
    for _ in range(CALLS):
        secret = dice.choice([SECRET, SECRET, SECRET, OTHER_SECRET])
        fresh = dice.randbytes(dice.randrange(200))
        body, headers = dice.choice(DAMAGES)(dice, fresh, signed(fresh, secret, NOW_S - dice.choice(AGES_S)))
        signature, stamp = (headers.get(f"X-Encord-{name}") for name in ("Signature", "Timestamp"))
        theirs = says_yes(
            lambda b=body, s=signature, t=stamp: encords.verify_signature(b, signature=s, timestamp=t, secret=SECRET),
            encords.WebhookVerificationError,
            OverflowError,
        )
        ours = says_yes(
            lambda b=body, h=headers: verify_encord(in_latin_1(h), b, [SECRET.encode()], NOW_S), PermanentCallError
        )
        seen[theirs, ours] += 1
    assert seen.keys() == {(True, True), (False, False)}
    assert min(seen.values()) > CALLS / 10, seen


def test_the_standard_webhooks_package_and_ours_give_the_same_answer_on_2_000_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its errors are of any type, for a malformed signature."""
    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", StoodStill)
    dice, seen = random.Random(SEED), Counter[tuple[bool, bool]]()
    theirs_by = standardwebhooks.Webhook(BUCKET_SECRET)
    key = base64.b64decode(BUCKET_SECRET.removeprefix("whsec_"))
    for _ in range(CALLS // 5):
        at_s = NOW_S - dice.choice(AGES_S)
        fresh = b'{"a": "%d"}' % dice.randrange(10**9)
        body, headers = dice.choice(DAMAGES)(dice, fresh, standard_signed(fresh, message=f"m{fresh!r}", at_s=at_s))
        theirs = says_yes(lambda b=body, h=headers: theirs_by.verify(b, h), Exception)
        ours = says_yes(lambda b=body, h=headers: verify_standard(in_latin_1(h), b, [key], NOW_S), PermanentCallError)
        seen[theirs, ours] += 1
    assert seen.keys() == {(True, True), (False, False)}, seen
