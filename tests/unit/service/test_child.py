"""The process that runs projects: what crosses to it, what becomes of it. No run gets as far as the network."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from autolabel.errors import TransientError
from autolabel.home import open_looks
from autolabel.locks import hold, hold_for
from autolabel.running import Ended
from autolabel.service.child import SLICE_MINUTES, SyncChild, is_busy, outcome_of
from autolabel.service.dispatch import Verdict
from autolabel.settings import Settings, forget_secrets, read_settings
from autolabel.wakes import Hint

PROJECT = "aaaaaaaa-0000-0000-0000-000000000000"
NO_KEY = "a-secret-that-is-no-key"
NO_PLACE: Any = None


def settings_with(key: str, folder: Path) -> Settings:
    secrets = {"ENCORD_SSH_KEY": key, "ENCORD_WEBHOOK_SECRET": "a-webhook-secret"}
    return Settings(_env_file=None, home=folder, projects=PROJECT, **secrets)  # type: ignore[call-arg,arg-type]


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncChild]:
    with closing(SyncChild(settings_with(NO_KEY, tmp_path_factory.mktemp("home")), threading.Event())) as made:
        yield made


def test_an_error_comes_back_as_words_and_the_process_stays(child: SyncChild) -> None:
    told = child.ask(Hint(PROJECT, "stage"))
    assert (told.verdict, "no Ed25519 private key" in told.message) == (Verdict.LATER, True)
    assert child.pid is not None
    first = child.pid
    assert child.ask(Hint("", "dataset/one")).verdict == Verdict.LATER
    assert child.pid == first


def test_no_secret_is_in_the_arguments_or_the_environment_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = {"ENCORD_SSH_KEY": NO_KEY, "Encord_Webhook_Secret": "one-secret", "autolabel_bucket_secret": "another"}
    for name, value in {**set_to, "AUTOLABEL_HOME": str(tmp_path), "CANARY": "a-canary"}.items():
        monkeypatch.setenv(name, value)
    settings = read_settings(env_file=None)
    assert settings.webhook_secret
    assert settings.bucket_secret
    forget_secrets()
    with closing(SyncChild(settings, threading.Event())) as child:
        child.ask(Hint(PROJECT, "stage"))
        process = psutil.Process(child.pid)
        shown = [*process.cmdline(), *process.environ().values()]
    assert "a-canary" in shown
    assert not [secret for secret in set_to.values() if secret in " ".join(shown)]


def test_a_process_that_died_while_it_had_nothing_to_do_is_no_projects_fault(child: SyncChild) -> None:
    child.ask(Hint(PROJECT, "stage"))
    first = psutil.Process(child.pid)
    first.kill()
    while first.pid in {one.pid for one in multiprocessing.active_children()}:
        time.sleep(0.01)
    assert child.ask(Hint(PROJECT, "stage")).verdict == Verdict.LATER
    second = psutil.Process(child.pid)
    assert second != first
    child.close()
    assert (child.pid, second.is_running()) == (None, False)


def test_a_process_that_ends_without_an_answer_leaves_the_hint_for_later(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    settings = settings_with(key, tmp_path)
    with closing(SyncChild(settings, threading.Event())) as child:
        told = child.ask(Hint("", NO_PLACE))
        assert told.verdict == Verdict.LATER
        assert told.message == "the process that runs projects ended without an answer (exit code 1)"
        assert child.pid is None
    with closing(open_looks(settings)) as looks:
        assert looks.all() == []  # no project is to blame


@pytest.mark.parametrize("work", ["run", "undo"])
def test_a_project_that_another_command_holds_is_busy_whatever_that_one_does(tmp_path: Path, work: str) -> None:
    lock = tmp_path / "lock"
    with (
        hold(lock, f"{work}, another"),
        pytest.raises(TransientError) as raised,
        hold_for("run", hold(lock, "run, ours")),
    ):
        pass
    assert is_busy(raised.value)
    assert not is_busy(TransientError("no answer"))


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [({"labelled": 1}, Verdict.AGAIN), ({"inferred_frames": 32}, Verdict.AGAIN), ({}, Verdict.LATER)],
)
def test_a_run_whose_time_is_up_goes_on_at_once_only_where_it_got_on(
    counts: dict[str, int], verdict: Verdict
) -> None:
    nothing = {"run": "one", "labelled": 0, "empty": 0, "inferred_frames": 0, "pending": 5}
    summary = nothing | counts | {"held_back": {"max_minutes": 5}}
    assert outcome_of(Ended("title", summary)).verdict == verdict


@pytest.mark.parametrize(("given", "taken"), [(None, SLICE_MINUTES), (50.0, 50.0)])
def test_a_run_gets_a_slice_of_time_where_none_is_set(tmp_path: Path, given: float | None, taken: float) -> None:
    settings = settings_with(NO_KEY, tmp_path).model_copy(update={"max_minutes": given})
    assert SyncChild(settings, threading.Event()).settings.max_minutes == taken
