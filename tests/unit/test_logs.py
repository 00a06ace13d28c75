"""Log lines: complete, clean, in one form, and never in the way of what they tell of."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autolabel.locks import hold
from autolabel.logs import about, get_logger, install, keep
from canaries import CANARIES, leaks

TEXTS = [text for texts in CANARIES.values() for text in texts]
LOGGER = get_logger("autolabel.somewhere")


@pytest.fixture
def taken_over() -> Iterator[None]:
    """What `install` changes of this process is as before after the test."""
    root, factory, raises = logging.getLogger(), logging.getLogRecordFactory(), logging.raiseExceptions
    ours = logging.getLogger("autolabel")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers = []
    yield
    logging.captureWarnings(capture=False)
    logging.setLogRecordFactory(factory)
    logging.raiseExceptions, root.handlers = raises, handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def break_off(text: str) -> None:
    raise ValueError(text) from OSError(text)


def test_nothing_is_said_anywhere_before_it_is_installed(capfd: pytest.CaptureFixture[str]) -> None:
    LOGGER.info("row", row="a")
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("taken_over")
def test_a_line_says_when_where_and_what_in_json_and_leaves_stdout_alone(capfd: pytest.CaptureFixture[str]) -> None:
    install(logging.INFO)
    with about(run="run-1", project="p"):
        LOGGER.info("row", row="a", state="done", run="run-2")
    LOGGER.info("idle")
    out, err = capfd.readouterr()
    first, second = lines(err)
    moment = datetime.fromisoformat(first.pop("timestamp"))
    assert (moment.tzinfo, out) == (UTC, "")
    shown = {"event": "row", "level": "info", "logger": "autolabel.somewhere", "row": "a", "state": "done"}
    assert first == shown | {"run": "run-2", "project": "p"}
    assert "run" not in second


@pytest.mark.usefixtures("taken_over")
def test_on_stderr_are_our_warnings_and_all_errors_and_in_the_days_file_is_every_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install()
    keep(tmp_path / "home")
    LOGGER.info("row", row="a")
    LOGGER.warning("slow", seconds=2.5)
    logging.getLogger("urllib3").info("not heard")
    logging.getLogger("urllib3").warning("retrying %s", "GET")
    logging.getLogger("asyncio").error("lost")
    (file,) = (tmp_path / "home" / "logs").iterdir()
    assert [line["event"] for line in lines(capfd.readouterr().err)] == ["slow", "lost"]
    assert [line["event"] for line in lines(file.read_text())] == ["row", "slow", "retrying GET", "lost"]
    assert (file.name, file.stat().st_mode & 0o777) == (f"{datetime.now(UTC):%Y-%m-%d}.jsonl", 0o600)


@pytest.mark.usefixtures("taken_over")
def test_files_of_the_last_month_stay_and_no_other_file_goes(tmp_path: Path) -> None:
    names = {"2020-02-29.jsonl", "2020-03-01.jsonl", "notes.txt", f"{datetime.now(UTC):%Y-%m-%d}.jsonl"}
    (tmp_path / "logs").mkdir()
    for name in names:
        (tmp_path / "logs" / name).write_text("{}\n")
    install()
    keep(tmp_path)
    LOGGER.info("row")
    left = {path.name for path in (tmp_path / "logs").iterdir()}
    assert left == names - {"2020-02-29.jsonl", "2020-03-01.jsonl"}


@pytest.mark.usefixtures("taken_over")
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_line_shows_a_secret_whoever_logs_it_and_however(
    text: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install()
    keep(tmp_path)
    LOGGER.warning(text, url=text, many=[text, {"deep": text}], **{text: text})
    logging.getLogger("library").error("asked for %s", text)
    for logger in (LOGGER, logging.getLogger("library")):
        try:
            break_off(text)
        except ValueError:
            logger.exception("it broke", stack_info=True)
    (file,) = (tmp_path / "logs").iterdir()
    told = capfd.readouterr().err
    assert leaks(told + file.read_text()) == []
    assert told.count("OSError: ") == 2


@pytest.mark.usefixtures("taken_over")
def test_what_is_called_a_secret_is_one_whatever_it_looks_like(capfd: pytest.CaptureFixture[str]) -> None:
    install()
    LOGGER.warning("asked", webhook_secret="plain words", headers={"Authorization": "plain"}, token=5)
    (line,) = lines(capfd.readouterr().err)
    assert [line["webhook_secret"], line["headers"], line["token"]] == [
        "[redacted]",
        {"Authorization": "[redacted]"},
        "[redacted]",
    ]


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.usefixtures("taken_over")
def test_a_long_value_is_cut_before_it_is_redacted_and_through_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    install()
    LOGGER.warning("long", value="token=" + "x" * 10_000, short="z", url=f"{'y' * 3980} http://me:{'hush' * 5}@host/")
    (line,) = lines(capfd.readouterr().err)
    assert (line["value"], line["short"]) == ("token=[redacted] [6006 more characters]", "z")
    assert line["url"] == f"{'y' * 3980} http [{len('://me:@host/') + 20} more characters]"


@pytest.mark.usefixtures("taken_over")
def test_a_process_may_begin_to_be_about_something_while_another_thread_logs(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with ExitStack() as meanwhile:

        class Name(str):
            __slots__ = ()

            def __hash__(self) -> int:
                if is_logging:
                    is_logging.clear()
                    meanwhile.enter_context(about(stage="deliver"))
                return super().__hash__()

        is_logging: list[bool] = []
        install()
        with about(**{Name("run"): "run-1", "project": "p"}):
            is_logging.append(True)
            LOGGER.warning("row")
            meanwhile.close()
    (line,) = lines(capfd.readouterr().err)
    assert (line["run"], line["project"], is_logging) == ("run-1", "p", [])


@pytest.mark.usefixtures("taken_over")
def test_a_home_that_is_made_for_logs_is_its_owners_alone_and_one_that_is_there_stays(tmp_path: Path) -> None:
    install()
    before = os.umask(0o022)
    try:
        (tmp_path / "there").mkdir()
        for name in ("new", "there"):
            keep(tmp_path / name)
            LOGGER.info("row")
            with hold(tmp_path / name / "locks" / "serve.lock", "serve"):
                pass
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "there")]
    assert modes == [0o700, 0o755]


@pytest.mark.usefixtures("taken_over")
def test_no_value_ends_a_line_or_the_program(capfd: pytest.CaptureFixture[str]) -> None:
    endless: list[Any] = []
    endless.append(endless)
    odd = [Unspeakable(), endless, float("nan"), b"\xff", "\ud800", {1: {2}}, Path("a"), "up\x1b[2Jdown", 2**70]
    install()
    for value in odd:
        LOGGER.warning("odd", value=value)
    LOGGER.warning(Unspeakable())  # type: ignore[arg-type]
    LOGGER.warning("wrong call %d", "x")
    logging.getLogger("library").error("wrong call %d", "x")
    told = lines(capfd.readouterr().err)
    assert len(told) == len(odd) + 3
    assert [told[0]["value"], told[2]["value"]] == ["[Unspeakable that cannot be shown]", "nan"]
    assert [told[5]["value"], told[7]["value"]] == [{"1": [2]}, r"up\x1b[2Jdown"]


@pytest.mark.usefixtures("taken_over")
def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file")
    install()
    keep(tmp_path)
    LOGGER.info("row")
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_lines_are_for_people() -> None:
    ours, theirs = pty.openpty()
    code = "from autolabel import logs; logs.install(20); logs.get_logger('autolabel.x').info('row', state='done')"
    done = subprocess.run([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, check=True)
    os.close(theirs)
    told = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.stdout == b""
    words = re.sub(r"\x1b\[\d*m", "", told).split()
    assert words[1:] == ["[info", "]", "row", "[autolabel.x]", "state=done"]


def test_an_error_that_ends_a_command_is_in_the_days_file_and_once_on_stderr(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ENCORD_", "AUTOLABEL_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "autolabel", "undo", "--run", "nobody"],
        env=environment | {"AUTOLABEL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (file,) = (tmp_path / "logs").iterdir()
    (line,) = lines(file.read_text())
    assert (line["event"], line["exit_code"], done.returncode) == ("ended", 2, 2)
    assert done.stderr == f"error: {line['error']}\n"
