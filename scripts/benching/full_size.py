"""The published architectures at full size with random weights: what speed and equality need, and no download.

Published weights answer better, not faster. What transformers leaves at 0 or near it (offsets, gates, box heads,
relative positions) is drawn too: or whole branches would add nothing, and equality of them would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    SamConfig,
    SamImageProcessorPil,
    SamModel,
    SamProcessor,
    SamVisionConfig,
    SwinConfig,
)

from autolabel.models.weights import BUNDLED, locate

SEED = 7
STD = 0.02
GATE = 0.3
SWINS: Mapping[str, Mapping[str, Any]] = {
    "gd-tiny": {},
    "gd-base": {
        "image_size": 384,
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 12,
    },
}
VITS: Mapping[str, Mapping[str, Any]] = {
    "sam-b": {},
    "sam-l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "sam-h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}


def folder_of(name: str, cache: Path, vocabulary: Path | None) -> Path:
    """A folder to load: `bundled:...`, or one of SWINS and VITS, made where the cache does not hold it.

    `vocabulary`: BERT's vocab.txt; the bundled tokeniser stands in without it.
    """
    if name.startswith(BUNDLED):
        return locate(name)
    words = "small" if vocabulary is None or name in VITS else "bert"
    folder = cache / f"{name}-{words}-{SEED}"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".part")
        unfinished.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(SEED)
        (_save_detector if name in SWINS else _save_segmenter)(name, unfinished, vocabulary)
        unfinished.rename(folder)
    return folder


def _save_detector(name: str, folder: Path, vocabulary: Path | None) -> None:
    swin = SwinConfig(out_indices=[2, 3, 4], **SWINS[name])
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=swin))
    _draw(model, lambda name: name.endswith(("vision_param", "text_param")))
    # Cells at the frame's edge are blanked. They answer nothing then, as with trained weights; else they may be the
    # best of all, every one with the same box, and boxes would agree whatever came before.
    for part in (model.model.enc_output, model.model.enc_output_norm):
        part.bias.data.zero_()
    # Proposals are ranked, and random ones hold near-ties that rounding breaks either way. Queries with a content of
    # their own would answer otherwise by rank; with one content a tie changes the order of the answers alone.
    content = model.model.query_position_embeddings.weight
    content.data[:] = content.data[:1].clone()
    model.save_pretrained(folder)
    GroundingDinoProcessor(GroundingDinoImageProcessorPil(), _tokenizer(vocabulary)).save_pretrained(folder)


def _tokenizer(vocabulary: Path | None) -> Any:
    if vocabulary is None:
        return AutoTokenizer.from_pretrained(locate("bundled:detector"), local_files_only=True)
    words = vocabulary.read_text(encoding="utf-8").splitlines()
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True)


def _save_segmenter(name: str, folder: Path, _: Path | None) -> None:
    model = SamModel(SamConfig(vision_config=SamVisionConfig(initializer_range=STD, **VITS[name])))
    _draw(model, lambda _: False)
    # One pair of waves for pictures and boxes, as in the published weights, where their sigma is 1.
    waves = torch.randn_like(model.shared_image_embedding.positional_embedding)
    model.shared_image_embedding.positional_embedding.data = waves
    model.prompt_encoder.shared_embedding.positional_embedding.data = waves
    model.save_pretrained(folder)
    SamProcessor(SamImageProcessorPil()).save_pretrained(folder)


@torch.no_grad()
def _draw(model: Any, is_gate: Callable[[str], bool]) -> None:
    for name, values in model.named_parameters():
        if is_gate(name):
            values.fill_(GATE)
        elif values.abs().max() < STD / 100:
            values.normal_(std=STD)
