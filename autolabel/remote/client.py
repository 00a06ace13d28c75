"""Connects to the platform and turns the SDK's exceptions into ours. Nothing else of ours names an SDK exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple, NoReturn, ParamSpec, TypeVar

import requests
from encord import exceptions as sdk
from encord.http.constants import RequestsSettings
from encord.orm.project import ProjectType
from encord.project import Project
from encord.user_client import EncordUserClient
from tenacity import (
    RetryCallState,
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from autolabel import __version__
from autolabel.errors import (
    AutolabelError,
    PermanentAccessError,
    PermanentNotFoundError,
    PermanentRejectedError,
    PermanentTooLargeError,
    PermanentUsageError,
    TransientError,
    TransientMediaError,
    TransientOutageError,
    TransientRateLimitError,
    TransientServiceError,
)
from autolabel.remote import wire
from autolabel.remote.media import is_loopback

LONGEST_WAIT_S = 300
"""A wait that the platform asks for is obeyed up to here; for a longer one the run ends."""
STEP_BUDGET_S = 600
ATTEMPTS = 5
ANSWER_TIMEOUT_S = 10
P = ParamSpec("P")
T = TypeVar("T")

READS = RequestsSettings(
    max_retries=2, backoff_factor=0.5, connection_retries=2, connect_timeout=10, read_timeout=60, write_timeout=60
)
WRITES = replace(READS, max_retries=0)

# Every exception class of the SDK that a call of ours can meet (a test holds this table against the SDK).
ERRORS: dict[type[sdk.EncordException], type[AutolabelError]] = {
    sdk.AuthenticationError: PermanentAccessError,
    sdk.AuthorisationError: PermanentAccessError,
    sdk.SshKeyNotFound: PermanentAccessError,
    sdk.DuplicateSshKeyError: PermanentAccessError,
    sdk.InitialisationError: PermanentAccessError,
    sdk.ResourceNotFoundError: PermanentNotFoundError,
    sdk.PayloadTooLargeError: PermanentTooLargeError,
    sdk.WrongProjectTypeError: PermanentUsageError,
    sdk.RequestException: TransientServiceError,
    sdk.TimeOutError: TransientServiceError,
    sdk.UnknownException: TransientServiceError,
    sdk.GenericServerError: TransientServiceError,
    sdk.RateLimitExceededError: TransientRateLimitError,
    sdk.EncordException: PermanentRejectedError,
}


@dataclass(frozen=True)
class Connection:
    """A project through two clients: `client` and `project` read, `writing` is for all that changes something.

    A label save is a blind overwrite of the whole row, and the SDK would re-send it minutes later after a lost
    answer. So what goes through `writing` goes out once, and `retrying` repeats whole steps, each of which begins
    with a fresh read. A label row writes through the project that listed it.
    """

    client: EncordUserClient
    project: Project
    writing: Project
    is_local: bool = False
    """The platform is a stand-in on this machine."""


def connect(project_hash: str, domain: str, ssh_key: str, line: wire.Line | None = None) -> Connection:
    """Open a project with a private key in OpenSSH format (Ed25519).

    From here on all requests go by `line`; without one, by a fresh one.

    Raises PermanentUsageError for a key of another kind, PermanentAccessError, PermanentNotFoundError,
    TransientServiceError when the platform cannot be reached.
    """
    doing = f"opening project {project_hash} on {domain}"
    wire.install(line or wire.Line())
    client = make_client(domain, ssh_key)
    project = _open(client, project_hash, doing)
    if project.project_type != ProjectType.WORKFLOW:
        raise PermanentUsageError(f"project {project.title!r} has no workflow, so nothing says whose turn a row is")
    writing = _open(make_client(domain, ssh_key, WRITES), project_hash, doing)
    return Connection(client, project, writing, is_local=is_loopback(domain))


def make_client(domain: str, ssh_key: str, settings: RequestsSettings = READS) -> EncordUserClient:
    """Sends nothing. Raises PermanentUsageError for what is no Ed25519 private key in OpenSSH format."""
    wire.install(wire.installed())
    try:
        return EncordUserClient.create_with_ssh_private_key(
            ssh_key,
            requests_settings=settings,
            domain=domain,
            user_agent_suffix=f"autolabel/{__version__}",
        )
    except (ValueError, TypeError, sdk.EncordException):
        # `from None`: for an RSA key the SDK's own message holds the whole private key.
        raise PermanentUsageError(
            "the SSH key is no Ed25519 private key in OpenSSH format (or has a passphrase), so nothing was sent; "
            "make one with `ssh-keygen -t ed25519`, register it on the platform and name it in ENCORD_SSH_KEY_FILE"
        ) from None


def server_time_s(domain: str) -> float:
    """The platform's clock, in seconds since 1970, as any answer of it tells. Raises TransientServiceError."""
    try:
        answer = requests.head(domain, timeout=ANSWER_TIMEOUT_S)
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (requests.RequestException, KeyError, ValueError) as error:
        raise TransientServiceError(f"no answer from {domain} ({error.__class__.__name__})") from None


def read_key_file(path: Path) -> str:
    """The private key's text. Raises PermanentUsageError naming the path."""
    try:
        return path.expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentUsageError(
            f"the SSH key file {path} cannot be read ({error.__class__.__name__}); set ENCORD_SSH_KEY_FILE"
        ) from None


@contextmanager
def remote_call(doing: str) -> Iterator[None]:
    """Translate what the SDK raises while `doing` something into this program's errors, and learn from it.

    An AttributeError is what the SDK makes of an answer that is JSON and nothing else that it expects.
    """
    line = wire.installed()
    try:
        yield
    except (sdk.EncordException, requests.RequestException, AttributeError) as error:
        ours = _translated(error, doing)
        if isinstance(error, sdk.RateLimitExceededError):
            line.pace.slower()
        if isinstance(ours, TransientServiceError):
            line.circuit.failed()
        else:  # a refusal is an answer
            line.circuit.answered()
        raise ours from error
    line.circuit.answered()
    line.pace.faster()


def _translated(error: Exception, doing: str) -> AutolabelError:
    """Only a refusal repeats the platform's own words: it says what is wrong with the request."""
    kind = next((ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS), TransientServiceError)
    words = str(getattr(error, "message", "") or error).partition("\n")[0][:200]
    if isinstance(error, sdk.RateLimitExceededError):
        return _too_many(getattr(error, "retry_after", None), doing)
    if kind is PermanentAccessError:
        return kind(f"the platform does not let this key in ({type(error).__name__}) while {doing}")
    if kind is PermanentNotFoundError:
        return kind(f"the platform knows no such thing while {doing}")
    if kind is TransientServiceError:
        why = words if isinstance(error, sdk.TimeOutError) else type(error).__name__
        return kind(f"the platform gave no usable answer ({why}) while {doing}")
    return kind(f"the platform refuses ({type(error).__name__}: {words}) while {doing}")


def _too_many(retry_after_s: int | None, doing: str) -> AutolabelError:
    if retry_after_s is None or retry_after_s <= LONGEST_WAIT_S:
        return TransientRateLimitError(f"rate limit reached while {doing}", retry_after_s)
    return TransientOutageError(
        f"rate limit reached while {doing}: the platform asks to wait {retry_after_s} s, "
        f"a run waits {LONGEST_WAIT_S} s at most"
    )


def _wait_as_asked(state: RetryCallState) -> float:
    """The seconds that the platform asked for, and a little more so that not all threads come back at once."""
    error = state.outcome.exception() if state.outcome else None
    jitter_s = wait_random_exponential(multiplier=0.5, max=60)(state)
    if isinstance(error, TransientRateLimitError) and error.retry_after_s is not None:
        return error.retry_after_s + min(jitter_s, 1.0)
    return jitter_s


def _stay_limited(state: RetryCallState) -> NoReturn:
    error = state.outcome.exception() if state.outcome else None
    raise TransientOutageError(f"{error}, for {STEP_BUDGET_S} s in spite of all waiting") from error


class Again(NamedTuple):
    """How a step is repeated after one kind of error."""

    wait: Callable[[RetryCallState], float]
    stop: stop_base
    in_vain: Callable[[RetryCallState], NoReturn] | None = None


# What becomes of a step that met one of these answers. A repeated step begins with a fresh read, so that it does not
# matter what became of a write whose answer was lost. Whatever is not here is not repeated: 401 and 403 end the run,
# 404 means that the row is gone, after 400 and 413 the sink tries fewer rows at once.
REPEATED: dict[tuple[type[TransientError], ...], Again] = {
    # 429: no attempt is counted; `Pace` slows the whole run down.
    (TransientRateLimitError,): Again(_wait_as_asked, stop_before_delay(STEP_BUDGET_S), _stay_limited),
    # 5xx, reset, time-out, deadline, no JSON: for a write, unknown; a download that broke off, a URL that ran out.
    (TransientServiceError, TransientMediaError): Again(
        wait_random_exponential(multiplier=0.5, max=20),
        stop_after_attempt(ATTEMPTS) | stop_before_delay(STEP_BUDGET_S),
    ),
}


def _wait(duration_s: float) -> None:
    wire.installed().wait(duration_s)


def retrying(step: Callable[P, T]) -> Callable[P, T]:
    """Repeat a step that reads before it writes: doing it all again is safe, re-sending its request is not."""
    for kinds, again in REPEATED.items():
        step = retry(
            sleep=_wait,
            retry=retry_if_exception_type(kinds),
            wait=again.wait,
            stop=again.stop,
            retry_error_callback=again.in_vain,
            reraise=True,
        )(step)
    return step


@retrying
def _open(client: EncordUserClient, project_hash: str, doing: str) -> Project:
    with remote_call(doing):
        return client.get_project(project_hash)
