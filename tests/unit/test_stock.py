"""`autolabel models` on what is on this machine: nothing here asks a network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autolabel.cli import app
from autolabel.documents import shelf
from autolabel.errors import AutolabelError, PermanentModelError, PermanentUsageError
from autolabel.models import DETECTORS, SEGMENTERS, weights_digest
from autolabel.models.catalogue import CATALOGUE, PERMISSIVE, published
from autolabel.models.weights import State, check_files, locate
from autolabel.recipe import load_config
from autolabel.stock import describe
from hubs import digests, files_of


def said(*arguments: str) -> list[str]:
    """What `autolabel models` prints. Raises what it ends with."""
    done = CliRunner().invoke(app, ["models", *arguments])
    if isinstance(done.exception, AutolabelError):
        raise done.exception
    assert done.exit_code == 0
    return done.output.splitlines()


def test_the_list_says_what_is_here_and_which_config_uses_it() -> None:
    (text,) = said("list", "--json")

    listed = {item["weights"]: item for item in json.loads(text)["models"]}
    assert list(listed) == [item.weights for item in CATALOGUE]
    assert listed["bundled:detector"]["place"] == str(locate("bundled:detector"))
    assert "demo" in listed["bundled:detector"]["configs"]
    assert listed["facebook/sam3"]["licence"] == "SAM License"
    assert listed["facebook/sam3"]["is_gated"]


def test_the_list_for_people_names_licences_and_where_weights_lie() -> None:
    lines = said("list")

    assert f"      at {locate('bundled:segmenter')}" in lines
    assert "SAM License, gated  3440 MB" in next(line for line in lines if "facebook/sam3:" in line)


def test_a_config_stands_for_all_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLABEL_CONFIG", "demo")
    names = ("bundled:detector", "bundled:segmenter")

    checked = [line for line in said("verify") if "digest" in line]

    assert checked == [f"{name}: digest {weights_digest(name)}" for name in names]
    assert said("pull", "--config", "demo") == [f"{name}: at {locate(name)}" for name in names]


@pytest.mark.parametrize("broken", ["", "model.safetensors", "config.json"])
def test_files_in_the_hubs_cache_are_compared_with_their_published_digests(tmp_path: Path, broken: str) -> None:
    for name, content in files_of(locate("bundled:segmenter")).items():
        git, sha256 = digests(name, content)
        blob = tmp_path / (sha256 or git)
        blob.write_bytes(content + b" " * (name == broken))
        (tmp_path / name).symlink_to(blob.name)

    states = {file.path.name: file.state for file in check_files(tmp_path)}

    assert len(states) == 3
    assert states == {name: State.DAMAGED if name == broken else State.PUBLISHED for name in states}


@pytest.mark.parametrize(("name", "content"), [("model.safetensors", b"cut off"), ("config.json", b"{")])
def test_a_file_of_ones_own_that_is_not_what_its_name_says_is_damage(
    tmp_path: Path, name: str, content: bytes
) -> None:
    for other, whole in (files_of(locate("bundled:segmenter")) | {name: content}).items():
        (tmp_path / other).write_bytes(whole)

    with pytest.raises(PermanentModelError, match=f"is damaged: delete .*/{name} and get it anew"):
        said("verify", str(tmp_path))


def test_a_checkpoints_digest_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "sam_vit_b.pth").write_bytes(b"\x80tensors")
    sha256 = hashlib.sha256(b"\x80tensors").hexdigest()

    lines = said("verify", str(tmp_path / "sam_vit_b.pth"))

    assert lines == [f"hashed       {sha256} sam_vit_b.pth", f"{tmp_path / 'sam_vit_b.pth'}: digest {sha256}"]


@pytest.mark.parametrize("weights", ["some-team/some-model", "nowhere", "a.pth", "some-team/a.pth"])
def test_what_is_not_here_cannot_be_checked(weights: str) -> None:
    with pytest.raises(PermanentModelError, match=weights):
        said("verify", weights)


def test_weights_and_config_at_once_are_refused() -> None:
    with pytest.raises(PermanentUsageError, match="either"):
        said("pull", "bundled:detector", "--config", "demo")


@pytest.mark.parametrize("name", sorted(shelf("configs")))
def test_a_shipped_config_takes_weights_of_the_catalogue_that_anybody_may_use(name: str) -> None:
    config = load_config(name)
    models = [model for model in (config.detector, config.segmenter) if model]
    known = [published(model.weights) for model in models]

    assert [item and item.family for item in known] == [model.family for model in models]
    assert all(item and item.licence in PERMISSIVE and not item.is_gated for item in known)


def test_size_licence_and_gate_are_told_in_words() -> None:
    assert describe("facebook/sam3") == "about 3440 MB, SAM License, gated: the hub asks for a login"
    assert describe("facebook/sam-vit-base") == "about 375 MB, Apache-2.0"
    assert describe("/my/own") == "size and licence not in the catalogue, see where they come from"


def test_there_is_a_loader_for_every_family_of_the_catalogue_and_with_it_of_the_shipped_configs() -> None:
    assert {item.family for item in CATALOGUE} - {*DETECTORS, *SEGMENTERS} == set()


def test_the_catalogue_names_everything_once() -> None:
    assert len({item.weights for item in CATALOGUE}) == len(CATALOGUE)
