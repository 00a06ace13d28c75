"""Secrets through every error path at DEBUG: nothing that is printed, logged or stored holds one."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autolabel.errors import keep_trace
from autolabel.redaction import install
from canaries import CANARIES, OPENSSH_KEY, PEM_KEY, leaks
from sandbox.commands import Command
from sandbox.conftest import RunningSandbox
from torture_http import CALLS, ENDING, PASSING, ROWS_A_RUN, bench

EVERYTHING = " and ".join(text for texts in CANARIES.values() for text in texts)
HASH = "11111111-1111-1111-1111-111111111111"
SIGNED = re.compile(rb"(?:token|expires)=\w")
NAMES = ("429 garbage", "503", "413", "reset before", "cut", "no JSON")
FAULTS = [
    *(PASSING[name] | {"match": CALLS[call]} for call in ("sign", "download", "save", "copy") for name in NAMES),
    *(fault | {"match": CALLS["copy"], "after": 1} for fault in ENDING.values()),
]


@contextmanager
def everything_logged_to(path: Path) -> Iterator[None]:
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level, handler = root.level, logging.FileHandler(path)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
        logging.setLogRecordFactory(factory)


def showing(folder: Path) -> list[str]:
    """Files that show a key or a signed URL; what the stand-in itself keeps aside."""
    key = [line.encode() for line in (folder / "sandbox" / "sandbox_key").read_text().splitlines()[1:-1]]
    ours = [path for path in folder.rglob("*") if path.is_file() and "sandbox" not in path.parts[-2:]]
    contents = {path.name: path.read_bytes() for path in ours if folder / "sandbox" not in path.parents}
    return [name for name, held in contents.items() if SIGNED.search(held) or any(line in held for line in key)]


def push_through_faults(folder: Path) -> None:
    """Leaves ledger, spool, log and what the errors said in `folder`."""
    with bench(folder, ROWS_A_RUN) as made, everything_logged_to(folder / "log.txt"):
        made.admin("POST", "faults", [fault | {"times": 1} for fault in FAULTS])
        said = [repr(made.push(limit=ROWS_A_RUN)) for _ in range(3)]
    (folder / "said.txt").write_text("\n".join(said))


def test_no_log_ledger_or_spool_of_a_push_shows_a_secret_whatever_fails(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without the redaction the same log shows signed URLs: the search finds what there is to find."""
    bare = tmp_path_factory.mktemp("bare")
    push_through_faults(bare)
    assert showing(bare) == ["log.txt"]
    install()
    push_through_faults(tmp_path)
    assert showing(tmp_path) == []
    assert "[redacted]" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["push", "--project", EVERYTHING, "--yes"], {}),
        (["publish", "--run", EVERYTHING, "--yes"], {}),
        (["preview", "/nowhere/a.png?sig=c0ffee03&token=c0ffee04"], {}),
        (["preview", "--config", EVERYTHING, "--project", HASH], {}),
        (["push", "--project", HASH, "--yes"], {"ENCORD_SSH_KEY_FILE": "", "ENCORD_SSH_KEY": PEM_KEY}),
        (["preview", "--project", HASH], {"ENCORD_SSH_KEY_FILE": "", "ENCORD_SSH_KEY": OPENSSH_KEY[:-50]}),
        (["push", "--project", HASH, "--yes"], {"ENCORD_SSH_KEY_FILE": f"/nowhere?{EVERYTHING}"}),
        (["push", "--project", HASH, "--yes"], {"AUTOLABEL_AGENT_STAGE": EVERYTHING}),
        (["status"], {"AUTOLABEL_HOLDOUT": EVERYTHING}),
        (["status"], {"AUTOLABEL_HOME": f"/proc/{EVERYTHING[:50]}?sig=c0ffee03"}),
    ],
    ids=range(10),
)
def test_no_command_prints_or_keeps_a_secret_that_it_was_given(
    demo_sandbox: RunningSandbox, tmp_path: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    home = tmp_path / "home"
    command = Command(demo_sandbox, home)
    done = command(*arguments, TMPDIR=str(tmp_path), **environment)
    assert done.returncode in (1, 2, 75), done.stdout
    kept = [
        path.read_bytes().decode("latin-1")
        for path in tmp_path.rglob("*")
        if path.is_file() and "sandbox" not in path.parts
    ]
    assert leaks("\n".join([done.stdout, done.stderr, *kept])) == []


def break_off(text: str) -> None:
    raise ZeroDivisionError(text)


@pytest.mark.parametrize("text", [text for texts in CANARIES.values() for text in texts], ids=lambda _: "")
def test_a_crash_file_tells_of_the_bug_and_of_no_secret(text: str) -> None:
    try:
        break_off(text)
    except ZeroDivisionError as error:
        kept = Path(keep_trace(error))
    written = kept.read_text()
    kept.unlink()
    assert leaks(written) == []
    assert "ZeroDivisionError" in written
