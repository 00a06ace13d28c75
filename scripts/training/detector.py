"""Trains the small Grounding DINO from nothing."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    BertConfig,
    ConvNextConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
)

from autolabel.models.dino_text import correct_text_positions
from autolabel.sandbox.scenes import MATERIALS, Rgb, Scene
from autolabel.sandbox.tools import TOOLS
from training.detector_loss import Truth, detection_loss
from training.loop import Loss, train
from training.names import SEEN, akin, split
from training.pool import FIRST_SEED, SEEDS_A_ROUND, Pool
from training.tokenizer import build_tokenizer

POOL, RENEWED_A_STEP, BATCH = 2000, 3, 12
MULTIPLE_PX, MOST_PHRASES = 32, 8
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Round(NamedTuple):
    """`sides_px`: the short side of the scenes, each for an equal share of the steps.

    `tools_first`: how often, of the names that are not there, those that differ in the tool alone are asked first.
    """

    steps: int
    peak_rate: float
    sides_px: tuple[int, ...]
    tools_first: float


# Coarse first, as that is cheap; which ring-handled tool it is, the hardest to tell, shows only in a large scene.
ROUNDS = (Round(4800, 1e-3, (128, 192), 0.0), Round(1800, 5e-4, (256,), 0.5))
SIDE_PX = ROUNDS[-1].sides_px[-1]


class Sample(NamedTuple):
    """A scene at the largest size of its round; boxes (n, 4) as centre and size in [0, 1]."""

    rgb: Rgb
    names: list[str]
    boxes: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the detector goes")
    args = parser.parse_args()
    torch.set_num_threads(1)  # more of them only wait for each other in a model this small
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    model = new_model()
    tokenizer = build_tokenizer()
    edges = {"shortest_edge": SIDE_PX, "longest_edge": 2 * SIDE_PX}
    GroundingDinoProcessor(GroundingDinoImageProcessorPil(size=edges), tokenizer).save_pretrained(args.folder)
    first_seed = FIRST_SEED["detector"]
    for one in ROUNDS:
        pool = Pool(POOL, first_seed, rng, partial(prepared, side_px=one.sides_px[-1]))
        first_seed += SEEDS_A_ROUND

        def loss_of_step(model: Any, step: int, one: Round = one, pool: Pool[Sample] = pool) -> Loss:
            pool.renew(RENEWED_A_STEP)
            shrink = one.sides_px[step * len(one.sides_px) // one.steps] / one.sides_px[-1]
            pixels, texts, truths = batch(pool, shrink, one.tools_first, rng)
            text = tokenizer(texts, padding=True, return_tensors="pt")
            out = model(pixel_values=pixels, **text)
            return detection_loss(model, out, text, truths, (pixels.shape[-2], pixels.shape[-1]))

        model = train(
            model, one.steps, one.peak_rate, loss_of_step, lambda average: average.save_pretrained(args.folder)
        )


def new_model() -> Any:
    backbone = ConvNextConfig(
        hidden_sizes=[32, 64, 128], depths=[1, 2, 3], num_stages=3, out_indices=[2, 3], layer_scale_init_value=1.0
    )
    text = BertConfig(
        vocab_size=1030,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=256,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=60,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_feature_levels=3,
        dropout=0.0,
        fusion_droppath=0.0,
        max_text_len=256,
        auxiliary_loss=False,
        two_stage=True,
        attn_implementation="eager",
    )
    model = GroundingDinoForObjectDetection(config)
    correct_text_positions(model)
    _calibrate(model)
    return model


@torch.no_grad()
def _calibrate(model: Any) -> None:
    """Start with logits near -4, as most pairs of query and token do not match, and with the fusion's gates open."""
    for norm in (model.model.decoder.layer_norm, model.model.enc_output_norm):
        norm.weight.fill_(0.4)
        norm.bias[0] = 2.0
    of_text = model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    of_text.weight.fill_(0.4)
    of_text.bias[0] = -2.0
    for layer in model.model.encoder.layers:
        layer.fusion_layer.vision_param.fill_(0.3)
        layer.fusion_layer.text_param.fill_(0.3)


def prepared(scene: Scene, side_px: int) -> Sample:
    height, width = scene.rgb.shape[:2]
    scale = side_px / min(width, height)
    size = tuple(MULTIPLE_PX * round(side * scale / MULTIPLE_PX) for side in (width, height))
    rgb = np.asarray(cv2.resize(scene.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    xywh = np.array([cv2.boundingRect(seen.mask.view(np.uint8)) for seen in scene.objects], np.float32)
    boxes = np.hstack([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]]) / np.array([width, height] * 2, np.float32)
    return Sample(rgb, [seen.name for seen in scene.objects], boxes.astype(np.float32))


def batch(
    pool: Pool[Sample], shrink: float, tools_first: float, rng: np.random.Generator
) -> tuple[torch.Tensor, list[str], list[Truth]]:
    """Samples of one size, flipped at random -> pixels (B, 3, h, w), texts, and what is to be found."""
    (first,) = pool.pick(1)
    samples = [first, *pool.pick(BATCH - 1, lambda sample: sample.rgb.shape == first.rgb.shape)]
    height, width = (MULTIPLE_PX * round(n * shrink / MULTIPLE_PX) for n in first.rgb.shape[:2])
    pixels, texts, truths = [], [], []
    for sample in samples:
        rgb, boxes = cv2.resize(sample.rgb, (width, height), interpolation=cv2.INTER_AREA), sample.boxes.copy()
        for axis in (0, 1):  # columns, then rows
            if rng.random() < 0.5:
                rgb = np.flip(rgb, 1 - axis)
                boxes[:, axis] = 1 - boxes[:, axis]
        phrases, phrase_of_object = asked(sample.names, tools_first, rng)
        there = [i for i, phrase in enumerate(phrase_of_object) if phrase >= 0]
        truths.append(Truth(torch.from_numpy(boxes[there]), [phrase_of_object[i] for i in there]))
        pixels.append(torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1))
        texts.append(". ".join(phrases) + ".")
    return (torch.stack(pixels).float() / 255 - MEAN) / STD, texts, truths


def asked(names: list[str], tools_first: float, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Phrases for a frame, and for each of its objects the phrase that means it, or -1."""
    mode = rng.random()
    if mode < 0.78:
        phrases = _exact(names, tools_first, rng)
        wanted = names
    elif mode < 0.9:
        phrases = _some(list(TOOLS), rng)
        wanted = [split(name)[1] for name in names]
    elif mode < 0.97:
        phrases = [f"{material} instrument" for material in _some(list(MATERIALS), rng)]
        wanted = [f"{split(name)[0]} instrument" for name in names]
    else:
        phrases = [str(rng.choice(["instrument", "tool", "object", "surgical instrument", "surgical tool"]))]
        wanted = phrases * len(names)
    return phrases, [phrases.index(name) if name in phrases else -1 for name in wanted]


def _exact(names: list[str], tools_first: float, rng: np.random.Generator) -> list[str]:
    """What is there, mostly, among names that share its material or its tool."""
    there = list(dict.fromkeys(names))
    rng.shuffle(there)
    if rng.random() < 0.25:
        there = there[1:]
    hard = [name for name in SEEN if name not in names and any(akin(name, one) for one in names)]
    rng.shuffle(hard)
    if rng.random() < tools_first:
        hard.sort(key=lambda name: not any(split(name)[0] == split(one)[0] for one in names))
    room = max(0, MOST_PHRASES - len(there))
    count = room if rng.random() < 0.5 else int(rng.integers(0, room + 1))
    phrases = [*there, *hard[: max(count, 1 - len(there))]]
    rng.shuffle(phrases)
    return phrases


def _some(words: list[str], rng: np.random.Generator) -> list[str]:
    rng.shuffle(words)
    return words[: rng.integers(1, 7)]


if __name__ == "__main__":
    main()
