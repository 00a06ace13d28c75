"""SAM checkpoints as their authors publish them (`sam_vit_b_01ec64.pth`): what network they hold, and its weights."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

from autolabel.errors import PermanentModelError
from autolabel.models.sam_canvas import Framing

Tensors = Mapping[str, torch.Tensor]

# Not to be read off the tensors; the same in all that were published.
DECODER_HEADS = 8
# Torch's own, with which the decoder was trained; transformers' configurations say 1e-6.
DECODER_NORM_EPS = 1e-5
MEAN_GREY, STD_GREY = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# Substrings of the authors' names -> of transformers', applied in this order.
RENAMES = {
    "iou_prediction_head.layers.0": "iou_prediction_head.proj_in",
    "iou_prediction_head.layers.1": "iou_prediction_head.layers.0",
    "iou_prediction_head.layers.2": "iou_prediction_head.proj_out",
    "mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
    "mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
    "mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
    "mask_downscaling.0": "mask_embed.conv1",
    "mask_downscaling.1": "mask_embed.layer_norm1",
    "mask_downscaling.3": "mask_embed.conv2",
    "mask_downscaling.4": "mask_embed.layer_norm2",
    "mask_downscaling.6": "mask_embed.conv3",
    "point_embeddings": "point_embed",
    "pe_layer.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
    "image_encoder": "vision_encoder",
    "neck.0": "neck.conv1",
    "neck.1": "neck.layer_norm1",
    "neck.2": "neck.conv2",
    "neck.3": "neck.layer_norm2",
    "patch_embed.proj": "patch_embed.projection",
    ".norm": ".layer_norm",
    "blocks": "layers",
}
HYPERNETWORK = re.compile(r"(.*output_hypernetworks_mlps\.\d+\.)layers\.(\d)(.*)")
HYPERNETWORK_LAYERS = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
FREQUENCIES = "positional_embedding"


@dataclass(frozen=True)
class Architecture:
    """What the shapes of a checkpoint's tensors say of its network: ViT-B, L, H or any other of the kind."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_px: int
    square_px: int
    window: int
    global_layers: tuple[int, ...]
    prompt_width: int
    mask_channels: int
    decoder_depth: int
    decoder_mlp_width: int
    masks: int
    iou_width: int


def read_checkpoint(file: Path) -> tuple[Tensors, Architecture]:
    """Tensors alone, no code. Raises PermanentModelError where the file is damaged or no SAM."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as exc:
        cause = str(exc).partition("\n")[0]
        raise PermanentModelError(f"cannot read the checkpoint {file}: {cause}") from exc
    try:
        return tensors, _architecture(tensors)
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as exc:
        raise PermanentModelError(
            f"{file} is not a SAM checkpoint as its authors publish them ({exc!r}); "
            "SAM-HQ and SAM 2 are read from transformers' folders"
        ) from exc


def framing_of(architecture: Architecture) -> Framing:
    """Published checkpoints carry none; this is what the authors' predictor does."""
    mean, std = (tuple(grey / 255 for grey in greys) for greys in (MEAN_GREY, STD_GREY))
    return Framing(architecture.square_px, True, mean, std)


def load_checkpoint(file: Path) -> tuple[Any, Framing]:
    """The authors' checkpoint as transformers' `SamModel`, float32, on the CPU, and how it reads pictures.

    Raises PermanentModelError where a weight is missing, is one too many or does not fit.
    """
    tensors, architecture = read_checkpoint(file)
    model = SamModel(_config(architecture))
    with fitting(file):
        model.load_state_dict(_renamed(tensors))
    return model, framing_of(architecture)


@contextmanager
def fitting(file: Path) -> Iterator[None]:
    """What torch raises on weights that are missing, too many or of another shape -> one line."""
    try:
        yield
    except (RuntimeError, KeyError) as exc:
        cause = str(exc).splitlines()[-1].strip()[:200]
        raise PermanentModelError(f"the checkpoint {file} does not fit a SAM: {cause}") from exc


def _architecture(tensors: Tensors) -> Architecture:
    width, _, patch, _ = tensors["image_encoder.patch_embed.proj.weight"].shape
    grid = tensors["image_encoder.pos_embed"].shape[1]
    depth = _count(tensors, r"image_encoder\.blocks\.(\d+)\.norm1\.weight")
    relative = [tensors[f"image_encoder.blocks.{i}.attn.rel_pos_h"] for i in range(depth)]
    reaches = [(len(positions) + 1) // 2 for positions in relative]
    return Architecture(
        width=width,
        depth=depth,
        heads=width // relative[0].shape[1],
        mlp_width=len(tensors["image_encoder.blocks.0.mlp.lin1.weight"]),
        patch_px=patch,
        square_px=grid * patch,
        window=min(reaches),
        global_layers=tuple(i for i, reach in enumerate(reaches) if reach == grid),
        prompt_width=len(tensors["image_encoder.neck.0.weight"]),
        mask_channels=len(tensors["prompt_encoder.mask_downscaling.3.weight"]),
        decoder_depth=_count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\.norm1\.weight"),
        decoder_mlp_width=len(tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
        masks=len(tensors["mask_decoder.mask_tokens.weight"]) - 1,
        iou_width=len(tensors["mask_decoder.iou_prediction_head.layers.0.weight"]),
    )


def _count(tensors: Tensors, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in tensors)


def _config(net: Architecture) -> Any:
    vision = SamVisionConfig(
        hidden_size=net.width,
        output_channels=net.prompt_width,
        num_hidden_layers=net.depth,
        num_attention_heads=net.heads,
        image_size=net.square_px,
        patch_size=net.patch_px,
        window_size=net.window,
        global_attn_indexes=list(net.global_layers),
        num_pos_feats=net.prompt_width // 2,
        mlp_dim=net.mlp_width,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=net.prompt_width,
        image_size=net.square_px,
        patch_size=net.patch_px,
        mask_input_channels=net.mask_channels,
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=net.prompt_width,
        mlp_dim=net.decoder_mlp_width,
        num_hidden_layers=net.decoder_depth,
        num_attention_heads=DECODER_HEADS,
        num_multimask_outputs=net.masks,
        iou_head_hidden_dim=net.iou_width,
        layer_norm_eps=DECODER_NORM_EPS,
    )
    return SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)


def _renamed(tensors: Tensors) -> dict[str, torch.Tensor]:
    """By transformers' names. Its image side and its prompt side hold the coordinates' frequencies twice."""
    renamed = {_rename(name): tensor for name, tensor in tensors.items() if name not in ("pixel_mean", "pixel_std")}
    frequencies = renamed[f"prompt_encoder.shared_embedding.{FREQUENCIES}"]
    return renamed | {f"shared_image_embedding.{FREQUENCIES}": frequencies}


def _rename(name: str) -> str:
    for theirs, ours in RENAMES.items():
        name = name.replace(theirs, ours)
    if found := HYPERNETWORK.fullmatch(name):
        name = found[1] + HYPERNETWORK_LAYERS[found[2]] + found[3]
    return name
