"""No secret in a message, a log record or a file, whatever its shape; and nothing else goes with it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from autolabel.errors import PermanentMediaError, TransientRateLimitError, TransientServiceError
from autolabel.redaction import install, redact
from canaries import CANARIES, leaks

TEXTS = [text for texts in CANARIES.values() for text in texts]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_secret_goes_and_what_stands_around_it_stays(text: str) -> None:
    assert leaks(text)
    clean = redact(f"before it {text} (after it)\nthe next line")
    assert leaks(clean) == []
    assert clean.startswith("before it ")
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "the platform refuses (InvalidArgumentsError: no stage 5?) while saving 3 rows on branch autolabel-0a1b2c3d",
        "prompts need 300 tokens, the limit is 256: split them",
        "what is this? a = b",
        "https://app.encord.com/projects/view/11111111-1111-1111-1111-111111111111/summary",
        "its weights have the digest 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    ],
)
def test_what_is_no_secret_stays_to_the_letter(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_error_of_ours_can_carry_a_secret(text: str) -> None:
    for error in (
        TransientServiceError(text),
        PermanentMediaError("download", f"cannot get {text}"),
        TransientRateLimitError(text, 5),
    ):
        assert leaks(str(error) + repr(error)) == []


def break_off(text: str) -> None:
    raise ValueError(text) from OSError(text)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a handler writes that is there before `install`, of a logger that keeps its records to itself."""
    before, logger, stream = logging.getLogRecordFactory(), logging.getLogger("someone.elses"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    install()
    yield stream
    logging.setLogRecordFactory(before)
    logger.removeHandler(handler)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_log_record_shows_one_in_message_arguments_exception_or_stack(text: str, logged: io.StringIO) -> None:
    logger = logging.getLogger("someone.elses")
    logger.debug(text.replace("%", "%%"))
    logger.debug("asked for %s and %r", text, {"url": text})
    try:
        break_off(text)
    except ValueError:
        logger.exception("it broke", stack_info=True)
    written = logged.getvalue()
    assert leaks(written) == []
    assert all(words in written for words in ("it broke", "OSError: ", "Stack (most recent call last)"))


def test_a_wrong_call_of_a_library_ends_no_program(caplog: pytest.LogCaptureFixture) -> None:
    install()
    logging.getLogger("library").warning("old option", FutureWarning)
    assert "old option" in caplog.text
