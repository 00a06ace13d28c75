"""`autolabel models` against a hub over real HTTP, and without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autolabel.models import weights_digest
from autolabel.models.weights import locate
from hubs import COMMIT, files_of, serving

HUB_ID = "some-team/some-model"
NOBODY = "http://127.0.0.1:9"


def models(home: Path, *arguments: str, hub: str = NOBODY, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOLABEL_", "HF_"))}
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(home), "HF_ENDPOINT": hub, **environment}
    command = [sys.executable, "-m", "autolabel", "models", *arguments]
    return subprocess.run(command, cwd=home, env=clean | own, capture_output=True, text=True, timeout=60, check=False)


def cached(home: Path, name: str) -> Path:
    return home / "hub" / "models--some-team--some-model" / "snapshots" / COMMIT / name


def test_pulled_weights_are_whole_need_no_network_and_are_mended_by_pulling_again(tmp_path: Path) -> None:
    with serving(HUB_ID, files_of(locate("bundled:detector")) | {"model.bin": b"a pickle"}) as hub:
        pulled = models(tmp_path, "pull", HUB_ID, hub=hub)
        again = models(tmp_path, "pull", HUB_ID, HF_HUB_OFFLINE="1")
        whole = models(tmp_path, "verify", HUB_ID)
        blob = cached(tmp_path, "model.safetensors").resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        damaged = models(tmp_path, "verify", HUB_ID)
        blob.unlink()
        mended = models(tmp_path, "pull", HUB_ID, hub=hub)

    assert pulled.stdout.startswith(f"{HUB_ID}: size and licence not in the catalogue, see https://")
    for done in (again, mended):
        assert done.stdout.splitlines()[-1] == f"{HUB_ID}: at {cached(tmp_path, '')}"
    assert not cached(tmp_path, "model.bin").exists()
    assert all(line.startswith("as published ") for line in whole.stdout.splitlines()[:-1])
    assert whole.stdout.splitlines()[-1] == f"{HUB_ID}: digest {weights_digest('bundled:detector')}"
    assert (damaged.returncode, damaged.stderr.count("\n")) == (1, 1)
    assert f"{HUB_ID} is damaged: delete {blob} and get it anew" in damaged.stderr
    assert models(tmp_path, "verify", HUB_ID).stdout == whole.stdout


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json", "model.safetensors"])
def test_whatever_file_is_missing_or_damaged_is_mended_as_the_check_advises(tmp_path: Path, name: str) -> None:
    with serving(HUB_ID, files_of(locate("bundled:detector"))) as hub:
        models(tmp_path, "pull", HUB_ID, hub=hub)
        cached(tmp_path, name).resolve().unlink()
        models(tmp_path, "pull", HUB_ID, hub=hub)

    assert models(tmp_path, "verify", HUB_ID).stdout.splitlines()[-1].startswith(f"{HUB_ID}: digest ")


def test_gated_weights_say_in_one_line_what_to_do(tmp_path: Path) -> None:
    with serving("facebook/sam3", files_of(locate("bundled:detector")), is_gated=True) as hub:
        done = models(tmp_path, "pull", "facebook/sam3", hub=hub)

    assert done.stdout == "facebook/sam3: about 3440 MB, SAM License, gated: the hub asks for a login; downloading\n"
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "ask for access at https://huggingface.co/facebook/sam3, then log in" in done.stderr


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_network_a_pull_ends_in_one_line(tmp_path: Path, offline: str) -> None:
    done = models(tmp_path, "pull", HUB_ID, HF_HUB_OFFLINE=offline)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert ("HF_HUB_OFFLINE is set" in done.stderr) == (offline == "1")
