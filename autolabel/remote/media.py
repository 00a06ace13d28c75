"""Fetches media by signed URLs: only from public addresses, under limits of bytes and time, never naming the URL."""

from __future__ import annotations

import ipaddress
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import urlsplit

import requests
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError

from autolabel.core.rows import Reason
from autolabel.errors import Interrupted, PermanentMediaError, TransientMediaError
from autolabel.remote.wire import Deadline, HttpPool, TlsPool, WatchedAdapter, WatchedConnection, WatchedTlsConnection

TIMEOUT_S = (10, 30)
"""To connect, and from one piece to the next."""
PATIENCE_S = 60.0
SLOWEST_BYTES_PER_S = 20_000
"""A download may take `PATIENCE_S`, and as long again as its bytes take at this rate."""
CHUNK_BYTES = 1 << 18
REDIRECTS = 3
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # older Pythons take it for global


class Downloads:
    """Files by URL, from any thread. `clock` tells seconds, from any moment on.

    `is_local`: the platform is a stand-in on this machine, so that its files may be here too, and by plain HTTP.
    Everywhere else a URL that leads to this machine or network is an attempt to read what is not the platform's.
    """

    def __init__(self, max_bytes: int, *, is_local: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._is_local = is_local
        self._clock = clock
        self._threads = threading.local()
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """End what is under way, on whatever thread, with Interrupted."""
        self._abandoned.set()

    def go_on(self) -> None:
        if self._abandoned.is_set():
            raise Interrupted

    def fetch(self, url: str, folder: Path) -> Path:
        """Stream a file into `folder`. Raises PermanentMediaError, TransientMediaError, Interrupted."""
        try:
            with self._get(url) as answer:
                return self._spool(answer, folder)
        except (requests.RequestException, HTTPError) as error:
            # `from None`: the exception's text holds the signed URL.
            raise TransientMediaError(f"the download broke off ({error.__class__.__name__})") from None

    def is_served(self, url: str) -> bool:
        """Whether the file is to be had now; it is not read. Raises PermanentMediaError for a URL that is refused."""
        try:
            with self._get(url) as answer:
                return answer.status_code == 200
        except (requests.RequestException, HTTPError):
            return False

    def _get(self, url: str) -> requests.Response:
        with Deadline(PATIENCE_S):
            return self._session().get(url, stream=True, timeout=TIMEOUT_S)

    def _session(self) -> requests.Session:
        """One a thread: connections are reused, sessions are not shared."""
        if not hasattr(self._threads, "session"):
            session = self._threads.session = requests.Session()
            adapter = WatchedAdapter() if self._is_local else _PublicAdapter()
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            session.max_redirects = REDIRECTS
            # The announced size, against which the limit is held, is that of the bytes as they are sent.
            session.headers["Accept-Encoding"] = "identity"
        found: requests.Session = self._threads.session
        return found

    def _spool(self, answer: requests.Response, folder: Path) -> Path:
        if answer.status_code == 404:
            raise PermanentMediaError(Reason.GONE, "its file is not there (404)")
        if answer.status_code != 200:
            raise TransientMediaError(f"the download answered {answer.status_code}")
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as spooled:
            try:
                self._stream(answer, spooled)
            except BaseException:
                Path(spooled.name).unlink()
                raise
        return Path(spooled.name)

    def _stream(self, answer: requests.Response, spooled: IO[bytes]) -> None:
        """Write what comes as it comes. urllib3 itself raises where less comes than was announced."""
        self._check_size(answer.raw.length_remaining or 0)
        size, began_s = 0, self._clock()
        while piece := answer.raw.read1(CHUNK_BYTES, decode_content=True):
            size += len(piece)
            self._check_size(size)
            self.go_on()
            if self._clock() - began_s > PATIENCE_S + size / SLOWEST_BYTES_PER_S:
                raise TransientMediaError(f"the download is too slow: {size} bytes so far")
            spooled.write(piece)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"its file is over {self._max_bytes} bytes (AUTOLABEL_MAX_MEDIA_BYTES)"
            raise PermanentMediaError(Reason.TOO_LARGE, message)


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, without asking any name server."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where it wraps one of version 4 (NAT64, 6to4)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in NAT64 else found.sixtofour
        inner = inner or found.ipv4_mapped
        if inner is not None:
            return is_public(str(inner))
        if found in LOCAL_NAT64:
            return False
    return found.is_global and not found.is_multicast


def public_addresses(host: str, port: int) -> list[str]:
    """What a host's name stands for now. Raises PermanentMediaError where any of it is not public, OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise _refused(host, f"{address} is no public address")
    return addresses


def _refused(host: str, why: str) -> PermanentMediaError:
    return PermanentMediaError(Reason.DOWNLOAD, f"its file's URL names {host!r}, which is refused: {why}")


class _PublicConnection(WatchedConnection):
    """Connects to an address that was checked: nobody is asked for the name a second time."""

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        try:
            *others, last = public_addresses(name, self.port or 0)
            for self._dns_host in others:
                try:
                    return super()._new_conn()
                except NewConnectionError:
                    continue
            self._dns_host = last
            return super()._new_conn()
        except socket.gaierror as error:
            raise NewConnectionError(self, "the host has no address") from error
        finally:
            self._dns_host = name  # by which TLS checks the certificate


class _PublicTlsConnection(_PublicConnection, WatchedTlsConnection):
    pass


class _PublicHttpPool(HttpPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(TlsPool):
    ConnectionCls = _PublicTlsConnection


class _PublicAdapter(WatchedAdapter):
    """Checks every request, those that follow a redirect included. Behind a proxy it is the proxy that connects."""

    POOLS: ClassVar[dict[str, type[HTTPConnectionPool]]] = {"http": _PublicHttpPool, "https": _PublicTlsPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        if parts.scheme != "https":
            raise _refused(str(parts.hostname), "files come by https only")
        return super().send(request, *args, **kwargs)
