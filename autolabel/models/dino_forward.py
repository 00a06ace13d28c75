"""Two ways through Grounding DINO for frames of one size: transformers' own, and ours, which says the same sooner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from transformers.image_transforms import get_size_with_aspect_ratio

from autolabel.models.dino_layers import contrast, decode, encode_vision, fuse, sinusoids
from autolabel.models.dino_sampling import Levels
from autolabel.models.dino_text import correct_text_positions, phrase_layout
from autolabel.models.pixels import normalise, resize, upload
from autolabel.protocols import RGB

# What depends on a frame's size alone is kept, 50 MB at 800 x 1333: a video has one size, a set of photos a few.
SIZES_KEPT = 4
# The backbones' coarsest stride: on a frame that is all but a line, less would leave a map without a cell.
MIN_SIDE_PX = 32


class Answer(NamedTuple):
    """`logits`: (B, Q, T), one a query and token. `boxes`: (B, Q, 4) as centre and size in [0, 1]. Both float32."""

    logits: torch.Tensor
    boxes: torch.Tensor


class Forward(Protocol):
    """The steps of a pass, apart so that each is taken as often as it must be: a text once a job, a frame once.

    What `read` and `see` return is their own affair: it goes into `answer`.
    """

    def prepare(self, images: Sequence[RGB]) -> torch.Tensor:
        """Images of one size -> (B, 3, h, w), resized and normalised as the weights were trained."""

    def read(self, input_ids: torch.Tensor) -> Any:
        """(1, T) int64, '[CLS] a . b . [SEP]'."""

    def see(self, pixels: torch.Tensor) -> Any:
        """What `prepare` returned."""

    def answer(self, seen: Any, text: Any) -> Answer:
        """Every frame that was seen, asked for that text."""


class ReferenceForward:
    """transformers' own processor and model. A Forward."""

    def __init__(self, model: Any, image_processor: Any) -> None:
        correct_text_positions(model)
        self._model = model
        self._image_processor = image_processor

    def prepare(self, images: Sequence[RGB]) -> torch.Tensor:
        inputs = self._image_processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
        pixels: torch.Tensor = inputs["pixel_values"].to(self._model.device, self._model.dtype)
        return pixels

    def read(self, input_ids: torch.Tensor) -> torch.Tensor:
        return input_ids

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def answer(self, seen: torch.Tensor, text: torch.Tensor) -> Answer:
        out = self._model(pixel_values=seen, input_ids=text.expand(len(seen), -1))
        return Answer(out.logits[..., : text.shape[1]].float(), out.pred_boxes.float())  # -inf beyond the text


@dataclass(frozen=True)
class Text:
    """What BERT made of the prompts: `features` and `positions` (1, T, D), `visible` (1, T, T) bool."""

    features: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True)
class Seen:
    """What the backbone made of frames of one size: `cells` (B, N, D), and the `shapes_hw` of the maps in them."""

    cells: torch.Tensor
    shapes_hw: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grid:
    """What depends on the maps' shapes alone.

    - `positions` (1, N, D): sinusoids of each cell and its level's embedding, in the model's precision.
    - `centres` (1, N, 2): of the cells, x and y in [0, 1].
    - `proposals` (1, N, 4): a first box a cell, in inverse-sigmoid space; inf where it is not `valid` (1, N, 1), too
      near to the frame's edge.
    """

    levels: Levels
    positions: torch.Tensor
    centres: torch.Tensor
    proposals: torch.Tensor
    valid: torch.Tensor


class FastForward:
    """The same model with less work. A Forward; takes frames without padding and a text without padding.

    - BERT reads a text once; the backbone sees a frame once, however many texts are asked.
    - Fusion re-associated and sampling by bags (see `dino_layers`, `dino_sampling`).
    - Heads where an answer is taken from them: the last level, the chosen proposals, the text's own tokens.
    - Boxes, references and sampling points are float32, in whatever precision the weights are.
    - Nothing waits for the device: no value of a tensor decides what is done.
    """

    def __init__(self, model: Any, image_processor: Any) -> None:
        """Raises ValueError where configuration or processor ask for what is not built here."""
        config = model.config
        if not (config.two_stage and config.embedding_init_target and config.num_feature_levels > 1):
            raise ValueError("only two-stage models with learned queries are built; try the reference")
        _require_plain(image_processor)
        self._head = model
        self._model = model.model
        self._image_processor = image_processor
        self.grid = lru_cache(maxsize=SIZES_KEPT)(self._grid)

    def prepare(self, images: Sequence[RGB]) -> torch.Tensor:
        processor = self._image_processor
        height, width = get_size_with_aspect_ratio(
            images[0].shape[:2], processor.size["shortest_edge"], processor.size["longest_edge"]
        )
        size = max(MIN_SIDE_PX, height), max(MIN_SIDE_PX, width)
        pixels = resize(upload(images, self._head.device), size)
        return normalise(pixels, processor.image_mean, processor.image_std).to(self._head.dtype)

    def read(self, input_ids: torch.Tensor) -> Text:
        model = self._model
        visible, positions = phrase_layout(input_ids)
        types = torch.zeros_like(input_ids)
        hidden = model.text_backbone(input_ids, visible[:, None], types, positions, return_dict=True)
        features = model.text_projection(hidden.last_hidden_state)
        waves = sinusoids(positions[..., None].float(), model.config.d_model)
        return Text(features, waves.to(features.dtype), visible)

    def see(self, pixels: torch.Tensor) -> Seen:
        model = self._model
        maps = list(model.backbone.conv_encoder.model(pixels, return_dict=True).feature_maps)
        projected = [project(one) for project, one in zip(model.input_proj_vision, maps, strict=False)]
        source = maps[-1]
        for project in model.input_proj_vision[len(maps) :]:
            source = project(source)
            projected.append(source)
        shapes = tuple((one.shape[-2], one.shape[-1]) for one in projected)
        return Seen(torch.cat([one.flatten(2).mT for one in projected], dim=1), shapes)

    def answer(self, seen: Seen, text: Text) -> Answer:
        return self.answer_on(self.grid(seen.shapes_hw), seen.cells, text)

    def answer_on(self, grid: Grid, cells: torch.Tensor, text: Text) -> Answer:
        """`answer` with the constants at hand: pure tensor work, one graph for `torch.compile`."""
        cells, tokens = self._encode(grid, cells, text)
        return self._decode(grid, cells, tokens, self._propose(grid, cells, tokens))

    def _encode(self, grid: Grid, cells: torch.Tensor, text: Text) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = text.features.expand(len(cells), -1, -1)
        visible = text.visible.expand(len(cells), -1, -1)
        for layer in self._model.encoder.layers:
            cells, tokens = fuse(layer.fusion_layer, cells, tokens)
            tokens, _ = layer.text_enhancer_layer(tokens, visible, text.positions)
            cells = encode_vision(layer.deformable_layer, cells, grid.positions, grid.centres, grid.levels)
        return cells, tokens

    def _propose(self, grid: Grid, cells: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The cells that answer best to any token -> their boxes (B, Q, 4) float32, where the decoder begins.

        Q is the model's number of queries, or that of the cells where a very long frame has fewer.
        """
        model = self._model
        objects = model.enc_output_norm(model.enc_output(cells.masked_fill(~grid.valid, 0)))
        best = contrast(model.encoder_output_class_embed, objects, tokens).amax(-1)
        chosen = best.topk(min(model.config.num_queries, best.shape[1]), dim=1).indices[..., None]
        shifts = model.encoder_output_bbox_embed(objects.gather(1, chosen.expand(-1, -1, objects.shape[-1])))
        starts = grid.proposals.expand(len(cells), -1, -1).gather(1, chosen.expand(-1, -1, 4))
        boxes: torch.Tensor = (shifts.float() + starts).sigmoid()
        return boxes

    def _decode(self, grid: Grid, cells: torch.Tensor, tokens: torch.Tensor, boxes: torch.Tensor) -> Answer:
        decoder = self._model.decoder
        queries = self._model.query_position_embeddings.weight[: boxes.shape[1]].expand(len(cells), -1, -1)
        for level, layer in enumerate(decoder.layers):
            if level > 0:
                boxes = _refine(boxes, decoder.bbox_embed[level - 1](queries))
            waves = sinusoids(boxes, self._model.config.d_model // 2).to(queries.dtype)
            positions = decoder.reference_points_head(waves)
            queries = decode(layer, queries, boxes, positions, (cells, tokens), grid.levels)
        queries = decoder.layer_norm(queries)
        boxes = _refine(boxes, self._head.bbox_embed[-1](queries))
        return Answer(contrast(self._head.class_embed[-1], queries, tokens), boxes)

    def _grid(self, shapes_hw: tuple[tuple[int, int], ...]) -> Grid:
        model, device, dtype = self._model, self._head.device, self._head.dtype
        positions, centres, extents = [], [], []
        for level, (height, width) in enumerate(shapes_hw):
            whole = torch.ones(1, height, width, dtype=torch.bool, device=device)
            waves = model.backbone.position_embedding(whole[:, None], whole).flatten(2).mT
            positions.append(waves + model.level_embed[level].float())
            y = (torch.arange(height, device=device) + 0.5) / height
            x = (torch.arange(width, device=device) + 0.5) / width
            centres.append(torch.cartesian_prod(y, x).flip(-1))
            extents.append(torch.full((height * width, 2), 0.05 * 2.0**level, device=device))
        centre = torch.cat(centres)[None]
        boxes = torch.cat((centre, torch.cat(extents)[None]), dim=-1)
        valid = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
        return Grid(
            levels=Levels.of(shapes_hw, device),
            positions=torch.cat(positions, dim=1).to(dtype),
            centres=centre,
            proposals=boxes.logit().masked_fill(~valid, float("inf")),
            valid=valid,
        )


def _refine(boxes: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Boxes (B, Q, 4) float32 in [0, 1], shifted in inverse-sigmoid space."""
    return (shifts.float() + boxes.logit(eps=1e-5)).sigmoid()


def _require_plain(processor: Any) -> None:
    """`prepare` resizes by edges, bilinearly, and normalises: what all published weights were trained with."""
    plain = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 2}
    odd = [name for name, value in plain.items() if getattr(processor, name) != value]
    if not processor.size.get("shortest_edge") or not processor.size.get("longest_edge"):
        odd.append("size")
    if abs(processor.rescale_factor - 1 / 255) > 1e-9:
        odd.append("rescale_factor")
    if odd:
        raise ValueError(f"its image processor sets {', '.join(odd)} as is not built; try the reference")
