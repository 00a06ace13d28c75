"""Secrets of the environment and of files that change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from autolabel.errors import PermanentUsageError
from autolabel.service.secrets import GRACE_S, KeyRing, open_secrets
from autolabel.service.signatures import ENCORD, STANDARD
from autolabel.settings import Settings, read_settings


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def in_file(path: Path, text: str) -> tuple[KeyRing, Clock]:
    path.write_text(text)
    clock = Clock()
    return KeyRing(None, path, ENCORD, clock), clock


def test_secrets_come_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("# the old one\nc\n\n  d  \r\n")
    ring = KeyRing(SecretStr(" a\tb "), tmp_path / "secrets", ENCORD)
    assert ring.current() == (b"a", b"b", b"c", b"d")


def test_without_any_setting_there_is_no_secret(tmp_path: Path) -> None:
    found = open_secrets(Settings(_env_file=None))
    assert found.encord.current() == found.bucket.current() == ()


def test_a_new_secret_holds_at_once_and_an_old_one_for_a_moment_more(tmp_path: Path) -> None:
    ring, clock = in_file(tmp_path / "secrets", "old")
    (tmp_path / "secrets").write_text("newer")
    assert ring.current() == (b"newer", b"old")
    clock.now_s += GRACE_S
    assert ring.current() == (b"newer",)


def test_a_file_that_is_read_half_written_refuses_no_valid_call(tmp_path: Path) -> None:
    ring, clock = in_file(tmp_path / "secrets", "old\n")
    for text, expected in (("", {b"old"}), ("ol", {b"ol", b"old"}), ("old\nnew\n", {b"old", b"new"})):
        (tmp_path / "secrets").write_text(text)
        assert expected <= set(ring.current())
    clock.now_s += GRACE_S
    assert ring.current() == (b"old", b"new")


def test_a_file_put_in_the_place_of_another_of_the_same_size_and_time_is_read(tmp_path: Path) -> None:
    ring, _ = in_file(tmp_path / "secrets", "old")
    before = (tmp_path / "secrets").stat()
    (tmp_path / "other").write_text("new")
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "other").replace(tmp_path / "secrets")
    assert b"new" in ring.current()


def test_a_second_change_within_one_tick_of_the_clock_is_seen_too(tmp_path: Path) -> None:
    ring, _ = in_file(tmp_path / "secrets", "one")
    for text in ("two", "six"):
        (tmp_path / "secrets").write_text(text)
        os.utime(tmp_path / "secrets", ns=(1, 1))
        assert text.encode() in ring.current()


@pytest.mark.parametrize("trouble", ["gone", "empty", "a folder", "binary", "huge"])
def test_a_file_that_cannot_be_used_any_more_keeps_the_last_good_secrets_and_is_told_once(
    tmp_path: Path, trouble: str
) -> None:
    path = tmp_path / "secrets"
    ring, clock = in_file(path, "good")
    path.unlink()
    spoil(path, trouble)
    with capture_logs() as logs:
        for _ in range(3):
            clock.now_s += 10
            assert ring.current() == (b"good",)
    assert [line["event"] for line in logs] == ["secrets kept as they were"]
    if path.is_dir():
        path.rmdir()
    path.write_text("better")
    assert b"better" in ring.current()


def spoil(path: Path, trouble: str) -> None:
    if trouble == "a folder":
        path.mkdir()
    elif trouble != "gone":
        path.write_bytes({"empty": b"# none\n", "binary": b"\xff\xfe", "huge": b"a\n" * 40_000}[trouble])


@pytest.mark.parametrize("trouble", ["gone", "empty", "a folder", "binary", "huge"])
def test_a_file_that_cannot_be_used_when_the_service_starts_is_an_error_that_names_it(
    tmp_path: Path, trouble: str
) -> None:
    spoil(tmp_path / "secrets", trouble)
    with pytest.raises(PermanentUsageError, match=r"secrets cannot be used: "):
        KeyRing(None, tmp_path / "secrets", ENCORD)


def test_a_bucket_secret_that_is_none_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("whsec_c2VjcmV0\nsecret-of-mine%\n")
    with pytest.raises(PermanentUsageError, match="whsec_<base64> is needed") as in_file_:
        KeyRing(None, tmp_path / "secrets", STANDARD)
    with pytest.raises(PermanentUsageError, match="whsec_<base64> is needed") as in_environment:
        KeyRing(SecretStr("secret-of-mine%"), None, STANDARD)
    assert "of-mine" not in f"{in_file_.value}{in_environment.value}"


@pytest.mark.parametrize("name", ["ENCORD_WEBHOOK_SECRET_FILE", "AUTOLABEL_BUCKET_SECRET_FILE"])
def test_a_file_in_the_users_own_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/secrets")
    settings = read_settings(env_file=None)
    assert tmp_path / "secrets" in (settings.webhook_secret_file, settings.bucket_secret_file)
