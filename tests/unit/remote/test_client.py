"""The edge to the SDK: keys, exceptions, retries. Wire faults come from `responses`; no test patches our own code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import responses
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from encord import exceptions as sdk
from encord.http.constants import RequestsSettings
from tenacity import Future, RetryCallState

from autolabel.errors import (
    AutolabelError,
    PermanentAccessError,
    PermanentNotFoundError,
    PermanentRejectedError,
    PermanentTooLargeError,
    PermanentUsageError,
    TransientOutageError,
    TransientRateLimitError,
    TransientServiceError,
)
from autolabel.remote import client, wire
from autolabel.remote.client import connect, read_key_file, remote_call, retrying
from autolabel.remote.pace import FAILURES

DOMAIN = "http://127.0.0.1:9"
PROJECT = "11111111-1111-1111-1111-111111111111"


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    form = serialization.PrivateFormat.OpenSSH
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


KEY = pem(ed25519.Ed25519PrivateKey.generate())


@pytest.fixture(autouse=True)
def _line_of_its_own() -> None:
    wire.install(wire.Line())


def look() -> None:
    """One request, sent once."""
    with remote_call("looking"):
        client.make_client(DOMAIN, KEY).get_project(PROJECT)


def all_sdk_exceptions(base: type[sdk.EncordException] = sdk.EncordException) -> set[type[sdk.EncordException]]:
    return {base, *(found for cls in base.__subclasses__() for found in all_sdk_exceptions(cls))}


@pytest.mark.parametrize("kind", sorted(all_sdk_exceptions(), key=lambda cls: cls.__name__))
def test_every_exception_of_the_sdk_becomes_one_of_ours(kind: type[sdk.EncordException]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "boom")
    error.message = "boom"
    with pytest.raises(AutolabelError, match=r"while saving"), remote_call("saving"):
        raise error


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        (400, PermanentRejectedError),
        (401, PermanentAccessError),
        (403, PermanentAccessError),
        (404, PermanentNotFoundError),
        (413, PermanentTooLargeError),
        (429, TransientRateLimitError),
        (500, TransientServiceError),
        (503, TransientServiceError),
        (504, TransientServiceError),
    ],
)
@responses.activate
def test_an_answer_becomes_the_error_that_says_whether_to_try_again(status: int, ours: type[AutolabelError]) -> None:
    responses.add(responses.GET, re.compile(DOMAIN), status=status, json={"message": "no"})
    with pytest.raises(ours, match="while looking"):
        look()


@responses.activate
def test_a_rate_limit_carries_the_wait_that_was_asked_for() -> None:
    responses.add(responses.GET, re.compile(DOMAIN), status=429, headers={"Retry-After": "7"}, json={})
    with pytest.raises(TransientRateLimitError) as caught:
        look()
    assert caught.value.retry_after_s == 7


@responses.activate
def test_no_answer_at_all_is_transient() -> None:
    responses.add(responses.GET, re.compile(DOMAIN), body=ConnectionResetError("reset"))
    with pytest.raises(TransientServiceError):
        look()


@responses.activate
def test_a_rate_limit_is_never_waited_out_by_the_sdk_itself() -> None:
    responses.add(responses.GET, re.compile(DOMAIN), status=429, headers={"Retry-After": "0"}, json={})
    with pytest.raises(TransientRateLimitError):
        look()
    assert len(responses.calls) == 1


@pytest.mark.parametrize(("settings", "sent"), [(client.READS, 3), (client.WRITES, 1)])
@responses.activate
def test_the_sdk_sends_again_what_reads_and_never_what_writes(settings: RequestsSettings, sent: int) -> None:
    """Whatever wait the platform asks for: the SDK would obey 6 hours."""
    quick = replace(settings, backoff_factor=0.001)
    responses.add(responses.GET, re.compile(DOMAIN), status=503, headers={"Retry-After": "21600"}, json={})
    with pytest.raises(TransientServiceError), remote_call("looking"):
        client.make_client(DOMAIN, KEY, quick).get_project(PROJECT)
    assert len(responses.calls) == sent


def test_an_rsa_key_is_refused_without_showing_it() -> None:
    key = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(PermanentUsageError, match="Ed25519") as caught:
        connect(PROJECT, DOMAIN, key)
    assert key.splitlines()[3] not in repr(caught.getrepr(chain=False))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\n!!\n"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(PermanentUsageError, match="OpenSSH"):
        connect(PROJECT, DOMAIN, text or " ")


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentUsageError, match=r"nowhere.*ENCORD_SSH_KEY_FILE"):
        read_key_file(tmp_path / "nowhere")


def asked_to_wait(error: TransientRateLimitError) -> float:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.outcome = Future.construct(1, error, has_exception=True)
    return client._wait_as_asked(state)


def test_the_wait_is_what_the_platform_asked_for_or_else_backs_off() -> None:
    assert 3 <= asked_to_wait(TransientRateLimitError("slow down", 3)) <= 4
    assert 0 <= asked_to_wait(TransientRateLimitError("slow down", None)) <= 60


@responses.activate
def test_a_wait_that_no_run_waits_for_ends_the_run_and_is_told() -> None:
    responses.add(responses.GET, re.compile(DOMAIN), status=429, headers={"Retry-After": "7200"}, json={})
    with pytest.raises(TransientOutageError, match="asks to wait 7200 s") as caught:
        connect(PROJECT, DOMAIN, KEY)
    assert (len(responses.calls), caught.value.exit_code) == (1, 75)


def failing(*errors: Exception) -> Callable[[], str]:
    """A step that meets these errors, one a call, and then succeeds."""
    left = list(errors)

    @retrying
    def step() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return step


def test_rate_limits_are_no_attempts_and_any_number_of_them_is_waited_out() -> None:
    limit, broken = TransientRateLimitError("429", 0), TransientServiceError("503")
    assert failing(limit, limit, broken, limit)() == "done"


@pytest.mark.parametrize("kind", [PermanentAccessError, PermanentTooLargeError, TransientOutageError])
def test_what_asking_again_cannot_mend_is_not_repeated(kind: type[AutolabelError]) -> None:
    step = failing(kind("once"))
    with pytest.raises(kind, match="once"):
        step()
    assert step() == "done"


def test_a_platform_that_stays_broken_is_given_up_for_good() -> None:
    for _ in range(FAILURES):
        with pytest.raises(TransientServiceError), remote_call("looking"):
            raise sdk.GenericServerError("503")
    with pytest.raises(TransientOutageError, match=f"{FAILURES} calls in succession"):
        look()


@responses.activate
def test_an_answer_that_is_json_and_nothing_else_is_no_answer() -> None:
    responses.add(responses.POST, re.compile(DOMAIN), json=["hello"])
    with pytest.raises(TransientServiceError, match="no usable answer"), remote_call("looking"):
        client.make_client(DOMAIN, KEY).get_dataset(PROJECT)
