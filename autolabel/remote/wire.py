"""How the SDK's requests travel: the one place where its HTTP sessions are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from encord.http import querier
from encord.http.v2 import api_client
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

LONGEST_BACK_OFF_S = 8.0


@contextmanager
def session(
    max_retries: int | None, backoff_factor: float, connect_retries: int, backoff_jitter: float = 0.0
) -> Iterator[Session]:
    """What the SDK's own `create_new_session` makes, less what an unattended run cannot have.

    It re-sends after a 5xx or a broken connection, as often as the client's settings say. It never obeys a
    Retry-After: urllib3 sleeps up to 6 hours for it, and setting its class attribute for that changes nothing, since
    that is bound as a default when the class is made. A 429 goes to our own retries, which slow down the whole run,
    and a 413 comes back at once, since the same body cannot fit the next time.
    """
    retries = Retry(
        connect=connect_retries,
        read=max_retries,
        status=max_retries,
        other=max_retries,
        allowed_methods=["GET", "POST", "PUT"],  # the SDK asks by POST too; what must not be re-sent comes with 0
        status_forcelist=[500, 502, 503, 504],
        backoff_factor=backoff_factor,
        backoff_max=LONGEST_BACK_OFF_S,
        backoff_jitter=backoff_jitter,
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    with Session() as made:
        for scheme in ("https://", "http://"):
            made.mount(scheme, HTTPAdapter(max_retries=retries))
        yield made


def install() -> None:
    """Let the SDK use `session`. It makes one for each request and takes none of ours, hence this way."""
    for module in (querier, api_client):
        names = vars(module)
        if "create_new_session" not in names:
            raise AssertionError(f"{module.__name__} makes its sessions in some other way")
        names["create_new_session"] = session
