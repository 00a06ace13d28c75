"""SAM checkpoints as their authors publish them, held against their own code: the `segment-anything` package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from autolabel.core.geometry import mask_to_window
from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.models import Placement, load_segmenter
from autolabel.models.sam import load_sam
from autolabel.models.sam_checkpoint import Architecture, load_checkpoint, read_checkpoint
from autolabel.models.sam_package import PackageSegmenter, build

TINY = Architecture(
    width=48,
    depth=3,
    heads=3,
    mlp_width=96,
    patch_px=8,
    square_px=128,
    window=7,
    global_layers=(1, 2),
    prompt_width=32,
    mask_channels=16,
    decoder_depth=2,
    decoder_mlp_width=64,
    masks=3,
    iou_width=32,
)
BOXES = np.array([[30, 60, 150, 170], [180, 40, 250, 110], [0, 0, 320, 224]], np.float32)
CPU = Placement("cpu")


@pytest.fixture(scope="module")
def _package() -> Iterator[None]:
    """The package's networks without its `__init__`, which wants torchvision: they themselves import none of it."""
    spec = find_spec("segment_anything")
    assert spec is not None
    bare = ModuleType("segment_anything")
    bare.__path__ = list(spec.submodule_search_locations or ())
    before = {name for name in sys.modules if name.partition(".")[0] == "torchvision"}
    sys.modules["segment_anything"] = bare
    yield
    after = {name for name in sys.modules if name.partition(".")[0] == "torchvision"}
    for name in [name for name in sys.modules if name.partition(".")[0] == "segment_anything"]:
        del sys.modules[name]
    assert after == before


@pytest.fixture(scope="module")
def theirs(_package: None) -> Any:
    """The authors' network with weights that make masks of some shape."""
    torch.manual_seed(9)
    sam = build(TINY)
    for name, weight in sam.named_parameters():
        if weight.ndim > 1 and "embed" not in name:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        elif "norm" not in name:
            torch.nn.init.normal_(weight, std=1 if weight.ndim > 1 else 0.2)
    return sam.eval()


@pytest.fixture(scope="module")
def checkpoint(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("authors") / "sam_vit_x_0123ab.pth"
    torch.save(theirs.state_dict(), file)
    return file


def test_the_tensors_tell_the_architecture(checkpoint: Path) -> None:
    assert read_checkpoint(checkpoint)[1] == TINY


@torch.inference_mode()
def test_a_converted_checkpoint_answers_as_the_authors_network(theirs: Any, checkpoint: Path) -> None:
    ours, _ = load_checkpoint(checkpoint)
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[20.0, 30, 70, 100], [60, 20, 120, 90]])

    embedding = theirs.image_encoder(pixels)
    corners, background = theirs.prompt_encoder(None, boxes, None)
    positions = theirs.prompt_encoder.get_dense_pe()
    logits, ious = theirs.mask_decoder(embedding, positions, corners, background, multimask_output=True)

    out = ours.eval()(pixel_values=pixels, input_boxes=boxes[None], multimask_output=True)
    torch.testing.assert_close(ours.get_image_embeddings(pixels), embedding, rtol=0, atol=1e-5)
    torch.testing.assert_close(out.pred_masks[0], logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(out.iou_scores[0], ious, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_px", [(128, 128), (320, 224)])
def test_the_package_as_a_segmenter_gives_the_masks_of_family_sam(checkpoint: Path, size_px: tuple[int, int]) -> None:
    image = np.full((size_px[1], size_px[0], 3), (250, 20, 30), np.uint8)
    image[: size_px[1] // 2] = (10, 160, 240)
    boxes = np.minimum(BOXES, np.array(size_px * 2, np.float32))

    (ours,), (theirs,) = (
        segmenter.segment([image], [boxes])
        for segmenter in (load_sam(checkpoint, CPU), PackageSegmenter.load(checkpoint, CPU))
    )

    for mask, expected in zip(ours, theirs, strict=True):
        a, b = mask_to_window(mask), mask_to_window(expected)
        assert (a ^ b).sum() <= 1e-3 * (a | b).sum()
        assert mask.score == pytest.approx(expected.score, abs=1e-5)
    assert any(0.1 < mask_to_window(mask).mean() < 0.9 for mask in ours)


def test_a_checkpoint_is_named_as_a_file_and_not_by_its_folder(checkpoint: Path) -> None:
    with pytest.raises(PermanentModelError, match=r"no weights at .*a \.pth file"):
        load_segmenter("sam", str(checkpoint.parent), CPU)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors.pop("mask_decoder.iou_token.weight"), "Missing key.*mask_decoder.iou_token.weight"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "Unexpected key.*more"),
        (lambda tensors: tensors.pop("image_encoder.pos_embed"), "is not a SAM checkpoint as its authors publish"),
    ],
    ids=["one weight short", "one too many", "no SAM"],
)
def test_a_checkpoint_that_is_not_whole_is_refused(
    checkpoint: Path, tmp_path: Path, spoil: Any, message: str
) -> None:
    tensors = dict(torch.load(checkpoint, weights_only=True))
    spoil(tensors)
    torch.save(tensors, tmp_path / "spoiled.pth")

    with pytest.raises(PermanentModelError, match=message) as caught:
        load_sam(tmp_path / "spoiled.pth", CPU)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02]q\x00 no tensors"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pth").write_bytes(content)

    with pytest.raises(PermanentModelError, match="cannot read the checkpoint") as caught:
        load_sam(tmp_path / "damaged.pth", CPU)

    assert "\n" not in str(caught.value)


def test_the_package_is_for_checkpoints_in_fp32_alone(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentModelError, match="no checkpoint such as sam_vit_b"):
        PackageSegmenter.load(tmp_path, CPU)
    with pytest.raises(PermanentUsageError, match="family sam reads the same file"):
        PackageSegmenter.load(checkpoint, Placement("cpu", "bf16"))


def test_without_torchvision_the_package_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)

    with pytest.raises(PermanentModelError, match=r"needs torchvision.*pip install torchvision.*family sam"):
        PackageSegmenter.load(checkpoint, CPU)
