"""Signatures of webhooks: what holds, what is refused and how it is told."""

from __future__ import annotations

import pytest

from autolabel.errors import PermanentCallError
from autolabel.service.signatures import TOLERANCE_S, standard_key, verify_encord, verify_standard
from webhooks import BUCKET_SECRET, OTHER_SECRET, SECRET, raw, signed, standard_signed, task_ready

NOW_S = 1_795_000_000.0
BODY = task_ready()
KEYS = (OTHER_SECRET.encode(), SECRET.encode())
SIGNATURE, STAMP = b"x-encord-signature", b"x-encord-timestamp"


def refusal(headers: list[tuple[bytes, bytes]], body: bytes = BODY, keys: tuple[bytes, ...] = KEYS) -> str:
    with pytest.raises(PermanentCallError) as refused:
        verify_encord(headers, body, keys, NOW_S)
    assert refused.value.status == 401
    return str(refused.value)


@pytest.mark.parametrize("age_s", [-TOLERANCE_S, 0, TOLERANCE_S])
@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_a_call_signed_with_any_of_our_secrets_holds_for_300_seconds(secret: str, age_s: int) -> None:
    verify_encord(raw(signed(BODY, secret, NOW_S - age_s)), BODY, KEYS, NOW_S)


def test_a_call_is_known_by_what_was_signed_whichever_secret_signed_it() -> None:
    digests = [verify_encord(raw(signed(BODY, one, NOW_S)), BODY, KEYS, NOW_S) for one in (SECRET, OTHER_SECRET)]
    later = verify_encord(raw(signed(BODY, SECRET, NOW_S + 1)), BODY, KEYS, NOW_S)
    assert digests[0] == digests[1] != later


@pytest.mark.parametrize("age_s", [-TOLERANCE_S - 1, TOLERANCE_S + 1, 10**9])
def test_a_time_outside_the_tolerance_is_refused_either_way(age_s: int) -> None:
    assert "more than 300 s from now" in refusal(raw(signed(BODY, at_s=NOW_S - age_s)))


def test_other_content_another_secret_and_no_secret_are_refused() -> None:
    headers = raw(signed(BODY, at_s=NOW_S))
    assert "does not hold" in refusal(headers, BODY + b" ")
    assert "does not hold" in refusal(headers, keys=(b"a third",))
    assert "does not hold" in refusal(headers, keys=())


@pytest.mark.parametrize(
    "stamp",
    [
        *(b"", b"+1795000000", b" 1795000000", b"1_795_000_000", b"1795000000.0", b"-1", b"0x6afd", b"1e9", b"NaN"),
        *("١٧٩٥".encode(), b"\xff", b"9" * 400, "\ud800".encode("utf-8", "surrogatepass")),
    ],
)
def test_a_time_that_is_no_plain_whole_seconds_is_refused_and_no_error(stamp: bytes) -> None:
    assert "X-Encord-Timestamp" in refusal([(STAMP, stamp), (SIGNATURE, b"0" * 64)])


@pytest.mark.parametrize("value", [b"\xff" * 64, b"0", b"0" * 65, "ü".encode() * 32, b"0" * 64, b"a" * 100_000])
def test_a_malformed_signature_is_refused_and_no_error(value: bytes) -> None:
    assert "does not hold" in refusal([(STAMP, b"1795000000"), (SIGNATURE, value)])


def test_a_signature_in_upper_case_is_refused_as_by_encords_own_package() -> None:
    right = signed(BODY, at_s=NOW_S)
    assert "does not hold" in refusal(raw(right | {"X-Encord-Signature": right["X-Encord-Signature"].upper()}))


@pytest.mark.parametrize("name", [SIGNATURE, STAMP])
def test_a_header_that_is_missing_empty_or_there_twice_is_named(name: bytes) -> None:
    right = dict(raw(signed(BODY, at_s=NOW_S)))
    title = name.decode().title()
    assert f"{title} is missing or empty" in refusal([one for one in right.items() if one[0] != name])
    assert f"{title} is missing or empty" in refusal(list((right | {name: b""}).items()))
    assert f"{title} is there more than once" in refusal([*right.items(), (name.upper(), right[name])])


def test_a_newer_kind_of_signature_is_named_and_no_secret_blamed() -> None:
    newer = [(b"X-Encord-Signature-V2", b"1"), (STAMP, b"1795000000")]
    assert refusal(newer) == ("unknown signature header X-Encord-Signature-V2; this release knows X-Encord-Signature")
    verify_encord([*raw(signed(BODY, at_s=NOW_S)), *newer[:1]], BODY, KEYS, NOW_S)


# The example that the specification's own libraries test with.
SPEC = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SPEC_BODY, SPEC_KEYS = b'{"test": 2432232314}', (standard_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),)


def standard_refusal(headers: list[tuple[bytes, bytes]], now_s: float = 1614265330.0) -> str:
    with pytest.raises(PermanentCallError) as refused:
        verify_standard(headers, SPEC_BODY, SPEC_KEYS, now_s)
    assert refused.value.status == 401
    return str(refused.value)


def test_the_example_of_the_standard_webhooks_specification_holds() -> None:
    verify_standard(raw(SPEC), SPEC_BODY, SPEC_KEYS, 1614265330.0)


def test_one_of_several_standard_signatures_is_enough_and_others_are_passed_over() -> None:
    several = SPEC | {"webhook-signature": f"v1a,x v1,AAAA  v1,\u00fc {SPEC['webhook-signature']} v2"}
    once = verify_standard(raw(SPEC), SPEC_BODY, SPEC_KEYS, 1614265330.0)
    assert verify_standard(raw(several), SPEC_BODY, (b"older", *SPEC_KEYS), 1614265330.0) == once


@pytest.mark.parametrize(
    "value", ["v1", "v1,", ",", "v1,a,b", "v1,!!", "\u00fc", "v1a," + SPEC["webhook-signature"][3:]]
)
def test_a_malformed_standard_signature_is_refused_and_no_error(value: str) -> None:
    assert "does not hold" in standard_refusal(raw(SPEC | {"webhook-signature": value}))


@pytest.mark.parametrize("name", list(SPEC))
def test_every_header_of_the_standard_scheme_is_needed(name: str) -> None:
    assert f"{name.title()} is missing" in standard_refusal(raw({one: SPEC[one] for one in SPEC if one != name}))


def test_the_standard_scheme_signs_id_and_time_too() -> None:
    assert "does not hold" in standard_refusal(raw(SPEC | {"webhook-id": "msg_2"}))
    assert "does not hold" in standard_refusal(raw(SPEC | {"webhook-timestamp": "1614265331"}))
    assert "more than 300 s" in standard_refusal(raw(SPEC), 1614265330.0 + 301)
    assert "does not hold" in standard_refusal(raw(standard_signed(SPEC_BODY, BUCKET_SECRET, at_s=1614265330)))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%", "whsec_abcde", "whsec_\u00fc", "secret of mine"])
def test_a_standard_secret_that_is_no_base64_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=r"^a secret like whsec_<base64> is needed$"):
        standard_key(secret)
