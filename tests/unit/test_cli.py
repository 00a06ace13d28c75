"""The command line without a platform: one line for every mistake, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autolabel.console import print_status
from autolabel.locks import hold
from autolabel.states import Job, State
from ledgers import open_ledger
from past import Past

PROJECT = "11111111-1111-1111-1111-111111111111"


def autolabel(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "autolabel", *arguments],
        env={**clean, "AUTOLABEL_HOME": str(home), "AUTOLABEL_CONFIG": "demo", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["push", "--project", PROJECT], {}, "give --yes to write, or --dry-run"),
        (["push"], {}, "give either --project HASH, or --all"),
        (["push", "--all", "--project", PROJECT], {}, "give either --project HASH, or --all"),
        (["push", "--all"], {}, "AUTOLABEL_PROJECTS names no project: set it to hashes or URLs"),
        (["push", "--all", "--dry-run"], {"AUTOLABEL_PROJECTS": PROJECT}, "give --project HASH"),
        (
            ["push", "--all"],
            {"AUTOLABEL_PROJECTS": "mine"},
            "AUTOLABEL_PROJECTS is off: 'mine' holds no project hash",
        ),
        (["push", "--all"], {"AUTOLABEL_PROJECTS": PROJECT}, f"error: project {PROJECT}: no key for the platform"),
        (["push", "--project", "my project", "-y"], {}, "holds no project hash"),
        (["push", "--project", PROJECT, "-y"], {}, "no key for the platform: set ENCORD_SSH_KEY_FILE"),
        (["push", "--project", PROJECT, "-y"], {"ENCORD_SSH_KEY_FILE": "/nowhere"}, "/nowhere cannot be read"),
        (["push", "--project", PROJECT, "-y"], {"ENCORD_SSH_KEY": "rubbish"}, "no Ed25519 private key"),
        (["push", "--project", PROJECT, "-y", "--config", "dmeo"], {}, "did you mean 'demo'"),
        (["push", "--project", PROJECT, "-y", "--config", "x.yaml"], {}, "there is no file x.yaml"),
        (["preview"], {}, "give pictures, videos or a folder, or --project"),
        (["preview", __file__], {}, 'give --prompts "a, b"'),
        (["preview", "/nowhere", "--prompts", "a"], {}, "there is no /nowhere"),
        (["preview", "--project", PROJECT, "--prompts", "a"], {}, "leave out files and --prompts"),
        (["preview", "--project", PROJECT], {}, "no key for the platform"),
        (["ontology", "init", "--project", "my project"], {}, "holds no project hash"),
        (["ontology", "check", "--project", PROJECT, "--config", "dmeo"], {}, "did you mean 'demo'"),
        (["push", "--project", PROJECT, "-y"], {"AUTOLABEL_BATCH_FRAMES": "many"}, "BATCH_FRAMES is off"),
        (["ontology", "init", "--project", PROJECT, "--out", "p.txt"], {}, "a prompt map is a .yaml file"),
        (["demo"], {"AUTOLABEL_BATCH_FRAMES": "0"}, "BATCH_FRAMES is off"),
        (
            ["status"],
            {"AUTOLABEL_HOLD_OUT": "0.5"},
            "no setting AUTOLABEL_HOLD_OUT; did you mean 'AUTOLABEL_HOLDOUT'",
        ),
        (["status"], {"AUTOLABEL_HOME": ""}, "AUTOLABEL_HOME is off: it names no folder"),
    ],
)
def test_a_mistake_ends_as_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = autolabel(tmp_path, *arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"AUTOLABEL_HOLDOUTS=1\n", "did you mean 'AUTOLABEL_HOLDOUT'"), (b"\xff=1\n", "the settings cannot be read")],
)
def test_a_mistake_in_the_env_file_is_one_line_too(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    done = autolabel(tmp_path, "status")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert message in done.stderr


def test_a_home_in_the_users_own_folder_is_one_place_wherever_a_command_is_called(tmp_path: Path) -> None:
    done = autolabel(tmp_path, "status", AUTOLABEL_HOME="~/labels", HOME=str(tmp_path / "user"))
    assert done.returncode == 0
    assert (tmp_path / "user" / "labels" / "ledger.sqlite").exists()


@pytest.mark.parametrize(
    "arguments", [["push", "--project", PROJECT, "--to", "moon"], ["push", "--max-minutes", "0"], ["fly"]]
)
def test_an_unknown_command_or_option_is_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = autolabel(tmp_path, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_publishing_an_unknown_run_says_where_to_look(tmp_path: Path) -> None:
    done = autolabel(tmp_path, "publish", "--run", "nope", "-y")
    assert (done.returncode, done.stderr) == (
        2,
        "error: the ledger knows no run 'nope'; `autolabel status` lists them\n",
    )


def test_status_without_any_run_says_how_to_start(tmp_path: Path) -> None:
    done = autolabel(tmp_path, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "autolabel push" in done.stdout


def test_status_shows_whole_run_ids_at_any_width(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path)) as ledger:
        ledger.start_run("20261121-120000-abcd", Job("p" * 36, "r" * 64, "main"), "A project of a long name", {})
    done = autolabel(tmp_path, "status", COLUMNS="50")
    assert "20261121-120000-abcd" in done.stdout


@pytest.mark.parametrize("shared", [True, False])
def test_status_says_that_nothing_owed_is_begun_only_where_no_other_host_may_serve(
    capsys: pytest.CaptureFixture[str], *, shared: bool
) -> None:
    project = {"title": "Apples", "project": "p", "look": None, "owed": 1, "reasons": []}
    rows = {"labelled": 0, "empty": 0, "under_way": 0}
    told = {"projects": [project | {"rows": rows}], "queue": {"p": 1}, "serving": None if shared else False}
    print_status(told | {"runs": [], "set_aside": []})
    assert ("`autolabel serve` does not run here" in capsys.readouterr().out) != shared


def test_status_tells_where_projects_stand_with_trouble_first_and_what_is_owed(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run(
        "run-1", labelled="ab", ends={"c": (State.SET_ASIDE, "decode")}, summary={"held_back": {"max_minutes": 7}}
    )
    past.look(project_title="Apples [bold]", run_id="run-1")
    past.look("z", project_title="Zebra", error="no right to this project")
    past.wake()
    past.wake("", "folder/1")
    told = autolabel(tmp_path, "status").stdout
    assert told.index("Zebra  z") < told.index("by cron: no right to this project") < told.index("Apples [bold]  p")
    assert "owed: 1 that webhooks asked for" in told
    assert "owed: 1 look-ups of the projects" in told
    assert "`autolabel serve` does not run here" in told
    assert "1  set aside: the file is no picture or video that can be decoded" in told
    assert (
        "finished   Title of p to main: 2 labelled, 6 objects, 0 pending, 2.5 frames/s\n  held back: 7 rows" in told
    )
    assert "  set aside, c.png: is damaged" in told


def test_status_gives_scripts_the_same_and_what_it_gave_before(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="ab", summary={})
    past.wake()
    with hold(tmp_path / "locks" / "serve.lock", "autolabel serve"):
        told = json.loads(autolabel(tmp_path, "status", "--json").stdout)
    assert told.keys() == {"serving", "projects", "queue", "runs", "rows", "set_aside"}
    assert (told["queue"], told["serving"]) == ({"p": 1}, True)
    assert json.loads(told["runs"][0]["summary"])["labelled"] == told["runs"][0]["labelled"] == 2
    assert told["projects"][0]["rows"]["labelled"] == told["rows"][0]["rows"] == 2


def test_a_damaged_ledger_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("rubbish" * 500)
    done = autolabel(tmp_path, "status")
    assert done.returncode == 1
    assert "nothing more is written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_command_line_imports_neither_torch_nor_the_sdk() -> None:
    code = "import autolabel.cli, sys; assert not {'torch', 'transformers', 'encord', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
