"""Which URLs are fetched. The names and addresses here are never asked for: a refusal comes before any connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolabel.errors import PermanentMediaError, TransientMediaError
from autolabel.remote.media import Downloads, is_loopback, is_public

SECRET = "X-Amz-Signature=5ec2e7"

INSIDE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "52.218.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", INSIDE)
def test_no_address_of_this_machine_or_network_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
    ],
)
def test_a_url_that_leads_inside_is_refused_by_its_host_and_without_its_query(host: str, tmp_path: Path) -> None:
    downloads = Downloads(1000, is_local=False)
    with pytest.raises(PermanentMediaError, match=r"is refused: .* is no public address") as caught:
        downloads.fetch(f"https://{host}:9/picture.png?{SECRET}", tmp_path)
    assert host.strip("[]") in str(caught.value)
    assert SECRET not in repr(caught.getrepr())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.com/a.png", "http://1.1.1.1/a.png"])
def test_plain_http_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentMediaError, match="by https only"):
        Downloads(1000, is_local=False).fetch(f"{url}?{SECRET}", tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://1.1.1.1/a", "no url"])
def test_what_is_no_web_address_is_not_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(TransientMediaError):
        Downloads(1000, is_local=False).fetch(url, tmp_path)


def test_files_of_a_stand_in_on_this_machine_may_be_here(tmp_path: Path) -> None:
    with pytest.raises(TransientMediaError, match="broke off"):
        Downloads(1000, is_local=True).fetch(f"http://127.0.0.1:9/picture.png?{SECRET}", tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost", True),
        ("http://[::1]:8000", True),
        ("https://api.encord.com", False),
        ("https://127.0.0.1.example.com", False),
        ("https://localhost.example.com", False),
    ],
)
def test_only_a_platform_on_this_machine_is_local(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected
