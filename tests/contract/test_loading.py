"""Weights that are damaged, foreign or incomplete are refused in one line, whatever the family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from autolabel.errors import PermanentInferenceError, PermanentModelError, PermanentUsageError
from autolabel.models import Placement, count_tokens, load_detector, load_segmenter
from autolabel.models.weights import locate
from pictures import plan_of, two_swabs


@pytest.fixture
def detector_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(locate("bundled:detector"), tmp_path / "detector"))


@pytest.fixture
def segmenter_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(locate("bundled:segmenter"), tmp_path / "segmenter"))


def refusal(folder: Path, device: str = "cpu") -> str:
    with pytest.raises(PermanentModelError) as caught:
        load_detector("grounding_dino", str(folder), Placement(device))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_weights_of_another_family_are_refused() -> None:
    with pytest.raises(PermanentModelError, match="they are of type 'sam', 'grounding-dino' is needed"):
        load_detector("grounding_dino", "bundled:segmenter", Placement("cpu"))
    with pytest.raises(PermanentModelError, match="they are of type 'grounding-dino', 'sam' is needed"):
        load_segmenter("sam", "bundled:detector", Placement("cpu"))


def test_a_truncated_weight_file_is_refused(detector_folder: Path) -> None:
    weights = detector_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])

    refusal(detector_folder)


def test_a_weight_that_is_missing_is_refused_and_not_made_up(detector_folder: Path) -> None:
    tensors = load_file(detector_folder / "model.safetensors")
    del tensors["model.query_position_embeddings.weight"]
    save_file(tensors, detector_folder / "model.safetensors", {"format": "pt"})

    assert "1 weights are missing, first 'model.query_position_embeddings.weight'" in refusal(detector_folder)


def test_weights_that_do_not_fit_the_configuration_are_refused(detector_folder: Path) -> None:
    config = json.loads((detector_folder / "config.json").read_text())
    (detector_folder / "config.json").write_text(json.dumps(config | {"num_queries": 70}))

    refusal(detector_folder)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_damaged_json_file_is_refused(detector_folder: Path, name: str) -> None:
    (detector_folder / name).write_text("{")

    refusal(detector_folder)


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"model_type": "grounding-dino", "text_config": 3}', '{"model_type": "grounding-dino"']
)
def test_a_configuration_of_the_wrong_shape_is_refused(detector_folder: Path, content: str) -> None:
    (detector_folder / "config.json").write_text(content)

    refusal(detector_folder)
    with pytest.raises(PermanentModelError, match="cannot load the weights"):
        count_tokens("grounding_dino", str(detector_folder), ["dog"])


def test_a_text_length_that_is_no_number_is_refused(detector_folder: Path) -> None:
    config = json.loads((detector_folder / "config.json").read_text())
    (detector_folder / "config.json").write_text(json.dumps(config | {"max_text_len": "x"}))

    refusal(detector_folder)
    with pytest.raises(PermanentModelError, match="max_text_len"):
        count_tokens("grounding_dino", str(detector_folder), ["dog"])


@pytest.mark.parametrize("content", ["[]", "3"])
def test_a_segmenters_files_of_the_wrong_shape_are_refused(segmenter_folder: Path, content: str) -> None:
    for name in ("processor_config.json", "config.json"):
        (segmenter_folder / name).write_text(content)
        for family in ("sam", "sam2"):
            with pytest.raises(PermanentModelError, match="cannot load the weights"):
                load_segmenter(family, str(segmenter_folder), Placement("cpu"))


def test_a_folder_without_tokeniser_is_refused(detector_folder: Path) -> None:
    (detector_folder / "tokenizer.json").unlink()
    (detector_folder / "tokenizer_config.json").unlink()

    assert "tokeniser" in refusal(detector_folder)


def test_float32_is_float32_on_a_gpu_too() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True

    load_segmenter("sam", "bundled:segmenter", Placement("cpu"))

    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)


def test_a_device_that_is_not_there_is_refused(detector_folder: Path) -> None:
    with pytest.raises(PermanentUsageError, match=r"no device 'cuda:77' here .*AUTOLABEL_DEVICE"):
        load_detector("grounding_dino", str(detector_folder), Placement("cuda:77"))


def test_a_detector_that_answers_nan_is_stopped(detector_folder: Path) -> None:
    poison(detector_folder, "model.query_position_embeddings.weight")

    with pytest.raises(PermanentInferenceError, match="hold NaN or infinity"):
        load_detector("grounding_dino", str(detector_folder), Placement("cpu")).detect(
            [two_swabs()], plan_of("red gauze")
        )


def test_a_segmenter_that_answers_nan_is_stopped(segmenter_folder: Path) -> None:
    poison(segmenter_folder, "mask_decoder.iou_prediction_head.proj_out.bias")
    boxes = np.array([[10, 10, 50, 50]], np.float32)

    with pytest.raises(PermanentInferenceError, match="mask scores hold NaN or infinity"):
        load_segmenter("sam", str(segmenter_folder), Placement("cpu")).segment([two_swabs()], [boxes])


def poison(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
