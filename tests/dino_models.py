"""Grounding DINOs with random weights that make every part of them matter."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SwinConfig,
)

CLASSES = {
    "grounding-dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
    "mm-grounding-dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
}
MODEL_TYPES = sorted(CLASSES)

torch.set_num_threads(1)  # models as small as these are several times slower on two


def tiny_model(model_type: str) -> Any:
    """A Swin whose windows are shifted and padded; four levels, the last made of the one before."""
    swin = SwinConfig(embed_dim=16, depths=[1, 1, 2], num_heads=[1, 2, 2], window_size=3, out_indices=[1, 2, 3])
    bert = BertConfig(
        vocab_size=2000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    return random_model(
        model_type,
        backbone_config=swin,
        text_config=bert,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=30,
    )


def random_model(model_type: str, seed: int = 0, **config: Any) -> Any:
    """transformers' model for inference, its weights drawn anew.

    As they are made, box heads and sampling offsets are nought and fusion is all but shut: any fault there would
    pass. Embeddings of queries are large, so that the heads' answers differ and the best are no ties.
    """
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[model_type]
    model = model_class(config_class(**config)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("vision_param", "text_param")):
                weight.uniform_(0.2, 0.4)
            elif weight.ndim < 2:
                weight.add_(torch.randn_like(weight) * 0.05)
            elif "sampling_offsets" in name:
                weight.normal_(std=0.5 / weight.shape[1] ** 0.5)
            elif "bbox_embed" in name or "attention_weights" in name:
                weight.normal_(std=1 / weight.shape[1] ** 0.5)
    return model
