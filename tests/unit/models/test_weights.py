from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.models import Placement, load_detector, load_segmenter, weights_digest
from autolabel.models.weights import locate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(locate("bundled:detector"), tmp_path / "copy")
    return tmp_path / "copy"


def test_importing_the_package_hashing_listing_and_checking_weights_brings_no_torch() -> None:
    program = (
        "import sys, autolabel.models as models; models.weights_digest('bundled:detector'); "
        "from autolabel import stock; stock.holdings(); stock.check('bundled:detector'); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_a_copy_of_the_weights_has_the_same_digest(folder: Path) -> None:
    assert weights_digest(str(folder)) == weights_digest("bundled:detector")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "processor_config.json"])
def test_the_digest_changes_with_every_file_that_shapes_the_answer(folder: Path, name: str) -> None:
    before = weights_digest(str(folder))
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")

    assert weights_digest(str(folder)) != before


def test_the_digest_ignores_files_that_are_never_loaded(folder: Path) -> None:
    before = weights_digest(str(folder))
    (folder / "README.md").write_text("a model card")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")

    assert weights_digest(str(folder)) == before


@pytest.mark.parametrize("weights", ["/nowhere/at/all", "./nowhere", "bundled:nothing", "no-such-folder", ""])
def test_missing_weights_are_named_in_one_line(weights: str) -> None:
    with pytest.raises(PermanentModelError, match=r"no weights at '.*': a folder with config\.json.*") as caught:
        weights_digest(weights)

    assert repr(weights) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_pickled_weights_only_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(PermanentModelError, match="no weights at"):
        locate(str(folder))


def test_a_checkpoint_is_found_as_a_file_and_its_digest_is_its_own_whatever_its_name(tmp_path: Path) -> None:
    first, other = tmp_path / "sam_vit_b_01ec64.pth", tmp_path / "other.pth"
    first.write_bytes(b"tensors")
    shutil.copy(first, other)

    assert locate(str(first)) == first
    assert weights_digest(str(first)) == weights_digest(str(other)) == hashlib.sha256(b"tensors").hexdigest()


def test_a_hub_id_that_is_neither_cached_nor_reachable_fails_at_once_with_what_to_do(tmp_path: Path) -> None:
    program = (
        "from autolabel.errors import PermanentModelError\n"
        "from autolabel.models import weights_digest\n"
        "try: weights_digest('some-team/some-model')\n"
        "except PermanentModelError as exc: print(exc)\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    started_s = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True
    )

    assert done.stdout.startswith("weights 'some-team/some-model' are not on this machine")
    assert done.stdout.endswith("run once with network, or give a local folder\n")
    assert done.stdout.count("\n") == 1
    assert time.monotonic() - started_s < 10


def test_a_hub_id_is_found_in_the_cache_without_network(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--some-team--some-model"
    shutil.copytree(locate("bundled:detector"), repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    program = "from autolabel.models import weights_digest; print(weights_digest('some-team/some-model'))"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True
    )

    assert done.stdout.strip() == weights_digest("bundled:detector")


@pytest.mark.parametrize(("load", "known"), [(load_detector, "grounding_dino"), (load_segmenter, "sam")])
def test_an_unknown_family_is_refused_naming_those_there_are(load: type, known: str) -> None:
    with pytest.raises(PermanentUsageError, match=rf"'yolo'; there is: {known}"):
        load("yolo", "bundled:detector", Placement("cpu"))
