"""The function that operators put behind their bucket, against the verifier of those who wrote the scheme down."""

from __future__ import annotations

from urllib.error import HTTPError

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deploy.bucket_function import handler
from sandbox.receivers import receiving, say

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DATASET = "5a6d0b0c-0000-4000-8000-656e636f7264"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLABEL_BUCKET_SECRET", SECRET)
    monkeypatch.setenv("ENCORD_DATASET", DATASET)


def test_what_it_posts_names_the_dataset_and_is_signed_as_standard_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("AUTOLABEL_URL", receiver.url)
        assert handler({"Records": []}, None) == 200
    ((body, headers),) = receiver.calls
    headers = {name.lower(): value for name, value in headers.items()}
    assert Webhook(SECRET).verify(body.decode(), headers) == {
        "type": "object.created",
        "data": {"dataset_hash": DATASET},
    }
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_c29tZXRoaW5nIGVsc2U=").verify(body.decode(), headers)


def test_each_message_has_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("AUTOLABEL_URL", receiver.url)
        assert [handler({}, None), handler({}, None)] == [200, 200]
    assert len({headers["Webhook-Id"] for _, headers in receiver.calls}) == 2


def test_a_refusal_fails_the_function_so_that_the_cloud_calls_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("AUTOLABEL_URL", receiver.url)
        receiver.answers = [say(503)]
        with pytest.raises(HTTPError, match="503"):
            handler({}, None)
