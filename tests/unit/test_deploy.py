"""What scripts/deploy holds fits the program: its commands, its settings, how it stops, what it may touch."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from autolabel.cli import app
from autolabel.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "scripts" / "deploy"
README = (ROOT / "README.md").read_text()
SERVICES = ("autolabel.service", "autolabel-push.service")
UNITS = (*SERVICES, "autolabel-push.timer")
CLOSES_THE_DEVICE = {"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute"}

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed here"
)


def unit(name: str) -> RawConfigParser:
    parser = RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / name)
    return parser


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions and their arguments, in order."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def the_service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["autolabel"]
    return found


def called() -> Iterator[tuple[str, list[str]]]:
    """Each command of ours in these files and in the README: where it stands, and its arguments."""
    for name in SERVICES:
        yield name, shlex.split(unit(name)["Service"]["ExecStart"])[1:]
    for line in (DEPLOY / "crontab").read_text().splitlines():
        if not line.startswith("#"):
            yield "crontab", shlex.split(line)[shlex.split(line).index("/opt/autolabel/bin/autolabel") + 1 :]
    yield "Dockerfile", yaml.safe_load(dict(dockerfile())["CMD"])
    for line in re.findall(r"^\$ (?:sudo -Hu autolabel )?autolabel (.*)$", README, re.MULTILINE):
        yield "README.md", [word for word in shlex.split(line, comments=True) if word != "&"]


def parse(command: Any, words: list[str]) -> None:
    """Raises where there is no such command, or not with these options."""
    if hasattr(command, "commands"):
        parse(command.commands[words[0]], words[1:])
    else:
        command.make_context("it", list(words))


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"{where}: {shlex.join(words)}") for where, words in called()]
)
def test_every_command_that_is_called_exists_with_its_options(words: list[str]) -> None:
    parse(typer.main.get_command(app), words)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """With this environment's command in place of the installed one, for systemd looks whether it is there."""
    for name in UNITS:
        text = (DEPLOY / name).read_text().replace("/opt/autolabel/bin", str(Path(sys.executable).parent))
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "autolabel" not in done.stdout + done.stderr  # of other units on this machine it may well complain


@needs_systemd
def test_the_timer_looks_four_times_an_hour_and_makes_up_for_what_it_slept_through() -> None:
    timer = unit("autolabel-push.timer")["Timer"]
    command = ["systemd-analyze", "calendar", "--iterations=4", timer["OnCalendar"]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {int(minute) for minute in re.findall(r":(\d\d):00 UTC", done.stdout)} == {0, 15, 30, 45}
    assert timer["Persistent"] == "yes"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_its_state_only_and_reach_the_device(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == service["StateDirectory"] == "autolabel"
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["UMask"]) == ("strict", "yes", "0077")
    assert not CLOSES_THE_DEVICE & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_the_main_process_alone_is_told_to_stop_and_has_the_time_for_it(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["KillMode"], service["OOMPolicy"]) == ("mixed", "continue")
    assert int(service["TimeoutStopSec"]) > 30


def test_both_services_are_shut_in_alike() -> None:
    one, other = (
        {
            key: value
            for key, value in unit(name)["Service"].items()
            if key.startswith(("Protect", "Restrict", "Private"))
        }
        for name in SERVICES
    )
    assert one == other


def test_the_image_is_pinned_runs_as_nobody_special_and_says_whether_it_is_well() -> None:
    steps = dockerfile()
    images = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert all(re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d+\.\d+", image) for image in images)
    last = dict(steps[[name for name, _ in steps].index("FROM", 1) :])
    assert int(last["USER"].split(":")[0]) >= 1000
    assert "/healthz" in last["HEALTHCHECK"]
    assert any("-c scripts/constraints.txt" in rest for name, rest in steps if name == "RUN")


def test_no_secret_can_get_into_a_layer_of_the_image() -> None:
    steps = dockerfile()
    assert "ARG" not in dict(steps)
    env = [word.split("=")[0] for name, rest in steps if name == "ENV" for word in rest.split()]
    assert set(env) == {"PATH", "AUTOLABEL_HOME", "HF_HOME"}
    first, *allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()[1:]
    assert first == "*"
    assert all((ROOT / name.removeprefix("!")).exists() for name in allowed if name.startswith("!"))
    assert not any(name.startswith("!.") for name in allowed)


def test_the_composed_service_is_this_machines_alone_and_cannot_write_but_to_its_volumes() -> None:
    service = the_service()
    assert service["network_mode"] == "host"
    assert "ports" not in service
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"][0] == "/etc/autolabel:/etc/autolabel:ro"
    assert {volume.split(":")[1] for volume in service["volumes"][1:]} == set(
        yaml.safe_load(dict(dockerfile())["VOLUME"])
    )
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_every_setting_that_is_set_exists() -> None:
    readme = re.findall(r"^((?:ENCORD|AUTOLABEL)_[A-Z_]+)=", README, re.MULTILINE)
    image = re.findall(r"\b(AUTOLABEL_[A-Z_]+)=", dict(dockerfile())["ENV"])
    known = {
        str(field.validation_alias or f"AUTOLABEL_{name.upper()}") for name, field in Settings.model_fields.items()
    }
    assert {*readme, *image, *the_service()["environment"]} <= known
