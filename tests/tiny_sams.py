"""SAMs of a few thousand random weights, as folders: what a family's code does with them is what it does with any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIDE_PX, PATCH_PX, WIDTH = 128, 8, 32
MEAN_STD = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PADDED = {
    "size": {"longest_edge": SIDE_PX},
    "pad_size": {"height": SIDE_PX, "width": SIDE_PX},
    "image_processor_type": "SamImageProcessor",
}
STRETCHED = {"size": {"height": SIDE_PX, "width": SIDE_PX}, "image_processor_type": "Sam2ImageProcessorFast"}

VISION = {
    "hidden_size": 48,
    "output_channels": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": SIDE_PX,
    "patch_size": PATCH_PX,
    "window_size": 7,
    "global_attn_indexes": [1, 2],
    "mlp_dim": 96,
    "num_pos_feats": WIDTH // 2,
}
PROMPTS = {"hidden_size": WIDTH, "image_size": SIDE_PX, "patch_size": PATCH_PX}
DECODER = {"hidden_size": WIDTH, "mlp_dim": 64, "num_attention_heads": 8, "iou_head_hidden_dim": WIDTH}


def tiny_sam() -> Any:
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision, prompts = SamVisionConfig(**VISION), SamPromptEncoderConfig(**PROMPTS)
    return _with_random_weights(
        SamModel(
            SamConfig(
                vision_config=vision,
                prompt_encoder_config=prompts,
                mask_decoder_config=SamMaskDecoderConfig(**DECODER),
            )
        )
    )


def tiny_sam_hq() -> Any:
    from transformers import (
        SamHQConfig,
        SamHQMaskDecoderConfig,
        SamHQModel,
        SamHQPromptEncoderConfig,
        SamHQVisionConfig,
    )

    vision, prompts = SamHQVisionConfig(**VISION), SamHQPromptEncoderConfig(**PROMPTS)
    decoder = SamHQMaskDecoderConfig(**DECODER, vit_dim=VISION["hidden_size"])
    return _with_random_weights(
        SamHQModel(SamHQConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    )


def tiny_sam2() -> Any:
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE_PX, SIDE_PX],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=WIDTH,
    )
    prompts = Sam2PromptEncoderConfig(hidden_size=WIDTH, image_size=SIDE_PX, patch_size=16)
    return _with_random_weights(
        Sam2Model(
            Sam2Config(
                vision_config=vision,
                prompt_encoder_config=prompts,
                mask_decoder_config=Sam2MaskDecoderConfig(**DECODER),
            )
        )
    )


TINY = {"sam": (tiny_sam, PADDED), "sam_hq": (tiny_sam_hq, PADDED), "sam2": (tiny_sam2, STRETCHED)}


def save_tiny(family: str, folder: Path) -> Path:
    """Model and preprocessing as the hub has them."""
    build, processor = TINY[family]
    build().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(MEAN_STD | processor))
    return folder


def _with_random_weights(model: Any) -> Any:
    """Weights that make masks of some shape and scores between 0 and 1: transformers' own ignore the picture."""
    import torch

    torch.manual_seed(5)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            is_matrix = weight.ndim > 1 and "embed" not in name
            torch.nn.init.normal_(
                weight, std=weight[0].numel() ** -0.5 if is_matrix else 1 if weight.ndim > 1 else 0.2
            )
    return model.eval()
