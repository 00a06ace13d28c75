"""Connects to the platform and turns the SDK's exceptions into ours. Nothing else of ours names an SDK exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path

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
    wait_random_exponential,
)

from autolabel import __version__
from autolabel.errors import (
    AutolabelError,
    PermanentAccessError,
    PermanentNotFoundError,
    PermanentRejectedError,
    PermanentUsageError,
    TransientError,
    TransientRateLimitError,
    TransientServiceError,
)
from autolabel.remote import wire

MAX_RETRY_AFTER_S = 60.0
ATTEMPTS = 5
ANSWER_TIMEOUT_S = 10
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


def connect(project_hash: str, domain: str, ssh_key: str) -> Connection:
    """Open a project with a private key in OpenSSH format (Ed25519).

    Raises PermanentUsageError for a key of another kind, PermanentAccessError, PermanentNotFoundError,
    TransientServiceError when the platform cannot be reached.
    """
    doing = f"opening project {project_hash} on {domain}"
    client = make_client(domain, ssh_key)
    project = _open(client, project_hash, doing)
    if project.project_type != ProjectType.WORKFLOW:
        raise PermanentUsageError(f"project {project.title!r} has no workflow, so nothing says whose turn a row is")
    return Connection(client, project, _open(make_client(domain, ssh_key, WRITES), project_hash, doing))


def make_client(domain: str, ssh_key: str, settings: RequestsSettings = READS) -> EncordUserClient:
    """Sends nothing. Raises PermanentUsageError for what is no Ed25519 private key in OpenSSH format."""
    wire.install()
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
    """Translate what the SDK raises while `doing` something into this program's errors."""
    try:
        yield
    except sdk.RateLimitExceededError as error:
        hint = getattr(error, "retry_after", None)
        raise TransientRateLimitError(f"rate limit reached while {doing}", hint) from error
    except sdk.EncordException as error:
        raise _translated(error, doing) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise TransientServiceError(f"no answer while {doing} ({error.__class__.__name__})") from error


def _translated(error: sdk.EncordException, doing: str) -> AutolabelError:
    """Only a refusal repeats the platform's own words: it says what is wrong with the request."""
    kind = next(ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS)
    words = str(getattr(error, "message", "") or error).partition("\n")[0][:200]
    if kind is PermanentAccessError:
        return kind(f"the platform does not let this key in ({type(error).__name__}) while {doing}")
    if kind is PermanentNotFoundError:
        return kind(f"the platform knows no such thing while {doing}")
    if kind is TransientServiceError:
        return kind(f"the platform gave no usable answer ({type(error).__name__}) while {doing}")
    return kind(f"the platform refuses ({type(error).__name__}: {words}) while {doing}")


def _wait(state: RetryCallState) -> float:
    """What the server asked for, capped; else exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TransientRateLimitError) and error.retry_after_s is not None:
        return min(error.retry_after_s, MAX_RETRY_AFTER_S)
    return wait_random_exponential(multiplier=0.5, max=20)(state)


retrying = retry(
    retry=retry_if_exception_type(TransientError),
    wait=_wait,
    stop=stop_after_attempt(ATTEMPTS),
    reraise=True,
)
"""Decorates a step that reads before it writes: repeating the whole step is safe, re-sending its request is not."""


@retrying
def _open(client: EncordUserClient, project_hash: str, doing: str) -> Project:
    with remote_call(doing):
        return client.get_project(project_hash)
