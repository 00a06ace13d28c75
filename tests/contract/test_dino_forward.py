"""The short way through Grounding DINO against transformers' own, for the families that share its layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForZeroShotObjectDetection, GroundingDinoImageProcessorPil

from autolabel.models import Placement, load_detector
from autolabel.models.dino_forward import Answer, FastForward, ReferenceForward
from autolabel.models.weights import locate
from dino_models import MODEL_TYPES, tiny_model
from pictures import plan_of, two_swabs

TEXT = torch.tensor([[101, 110, 120, 1012, 130, 1012, 140, 150, 160, 1029, 170, 1012, 102]])
SHORT_TEXT = torch.tensor([[101, 110, 1012, 102]])
SIZES_HW = [(128, 160), (150, 97)]
PROCESSOR = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
BUNDLED = locate("bundled:detector")


@pytest.fixture(scope="module", params=[*MODEL_TYPES, "bundled"])
def model(request: pytest.FixtureRequest) -> Any:
    with torch.inference_mode():
        if request.param == "bundled":
            yield AutoModelForZeroShotObjectDetection.from_pretrained(BUNDLED).eval()
        else:
            yield tiny_model(request.param)


def pictures(count: int, size_hw: tuple[int, int] = SIZES_HW[0]) -> torch.Tensor:
    return torch.randn(count, 3, *size_hw, generator=torch.Generator().manual_seed(5))


def ask(model: Any, pixels: torch.Tensor, input_ids: torch.Tensor) -> Answer:
    forward = FastForward(model, PROCESSOR)
    return forward.answer(forward.see(pixels), forward.read(input_ids))


def assert_equal(ours: Answer, theirs: Answer, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours.logits, theirs.logits, atol=tolerance, rtol=0)
    torch.testing.assert_close(ours.boxes, theirs.boxes, atol=tolerance, rtol=0)


@pytest.mark.parametrize("input_ids", [TEXT, SHORT_TEXT], ids=["long", "short"])
@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_logits_and_boxes_are_those_of_transformers(
    model: Any, size_hw: tuple[int, int], input_ids: torch.Tensor
) -> None:
    pixels = pictures(2, size_hw)
    best = model(pixel_values=pixels, input_ids=input_ids.expand(2, -1)).enc_outputs_class.amax(-1)
    ranked = best.topk(model.config.num_queries + 1).values
    assert (ranked[:, :-1] - ranked[:, 1:]).min() > 1e-5, "a tie: the order of proposals would be a matter of chance"

    theirs = ReferenceForward(model, PROCESSOR).answer(pixels, input_ids)

    assert theirs.logits.std() > 0.1
    assert theirs.boxes.std() > 0.05
    assert_equal(ask(model, pixels, input_ids), theirs)


def test_a_frames_answer_depends_on_no_other_frame_of_its_batch(model: Any) -> None:
    pixels = pictures(3)
    together = ask(model, pixels, TEXT)

    turned = ask(model, pixels.flip(0), TEXT)
    bright = ask(model, torch.cat([pixels[:1], pixels[1:] * 10]), TEXT)

    assert_equal(Answer(turned.logits.flip(0), turned.boxes.flip(0)), together)
    assert_equal(Answer(bright.logits[:1], bright.boxes[:1]), Answer(together.logits[:1], together.boxes[:1]))
    for i in range(3):
        one = Answer(together.logits[i : i + 1], together.boxes[i : i + 1])
        assert_equal(ask(model, pixels[i : i + 1], TEXT), one)


def test_sizes_seen_in_between_leave_no_trace(model: Any) -> None:
    forward = FastForward(model, PROCESSOR)
    text = forward.read(TEXT)
    first = forward.answer(forward.see(pictures(1)), text)
    for side in range(64, 128, 8):
        forward.answer(forward.see(pictures(1, (side, 72))), text)

    again = forward.answer(forward.see(pictures(1)), text)

    assert_equal(again, first, tolerance=0)


def test_the_text_is_read_to_the_bit_as_transformers_reads_it(model: Any) -> None:
    read: list[torch.Tensor] = []
    hook = model.model.text_projection.register_forward_hook(lambda _, args, out: read.append(out))
    ReferenceForward(model, PROCESSOR).answer(pictures(1), TEXT)
    hook.remove()

    assert torch.equal(FastForward(model, PROCESSOR).read(TEXT).features, read[0])


READS = {"item", "is_nonzero", "_local_scalar_dense", "nonzero", "equal", "masked_select"}


class NoValueRead(TorchDispatchMode):
    """Raises where the program asks what a tensor holds: on a GPU it would wait there for all work to end."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in READS
        return func(*args, **(kwargs or {}))


def test_no_step_of_a_frame_waits_for_the_device(model: Any) -> None:
    forward = FastForward(model, PROCESSOR)
    text = forward.read(TEXT)

    with NoValueRead():
        forward.answer(forward.see(pictures(1)), text)
        with pytest.raises(AssertionError):
            bool(pictures(1).any())


def test_all_that_follows_the_backbone_is_one_graph_without_a_break() -> None:
    forward = FastForward(AutoModelForZeroShotObjectDetection.from_pretrained(BUNDLED).eval(), PROCESSOR)
    with torch.no_grad():
        seen, text = forward.see(pictures(1)), forward.read(TEXT)
        explained = torch._dynamo.explain(forward.answer_on)(forward.grid(seen.shapes_hw), seen.cells, text)

    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


@pytest.mark.parametrize(
    "size_hw", [(1080, 1920), (1920, 1080), (480, 640), (256, 300), (100, 900), (901, 77), (64, 64), (333, 777)]
)
def test_pictures_are_prepared_as_by_transformers_processor(size_hw: tuple[int, int]) -> None:
    model = AutoModelForZeroShotObjectDetection.from_pretrained(BUNDLED)
    processor = GroundingDinoImageProcessorPil.from_pretrained(BUNDLED)
    image = two_swabs(size_hw[1], size_hw[0])

    theirs = ReferenceForward(model, processor).prepare([image])
    ours = FastForward(model, processor).prepare([image])

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_where_there_are_fewer_cells_than_queries_the_first_queries_ask_them_all() -> None:
    """As transformers' model does that has only those queries."""
    model, fewer = tiny_model("grounding-dino"), tiny_model("grounding-dino")
    pixels = pictures(2, (4, 40))
    with torch.inference_mode():
        cells = FastForward(model, PROCESSOR).see(pixels).cells.shape[1]
        assert cells < model.config.num_queries
        fewer.config.num_queries = cells
        fewer.model.query_position_embeddings.weight.data = model.model.query_position_embeddings.weight[:cells]

        assert_equal(ask(model, pixels, TEXT), ReferenceForward(fewer, PROCESSOR).answer(pixels, TEXT))


@pytest.mark.parametrize("size_px", [(4000, 60), (60, 4000), (5000, 1), (1, 5000), (1, 1)])
def test_a_frame_that_is_all_but_a_line_is_answered(size_px: tuple[int, int]) -> None:
    detector = load_detector("grounding_dino", "bundled:detector", Placement("cpu"))

    (found,) = detector.detect([np.full((size_px[1], size_px[0], 3), 127, np.uint8)], plan_of("red gauze"))

    assert np.isfinite(found.boxes_xyxy_px).all()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_either_reference_gives_bert_phrases_that_count_from_nought(model_type: str) -> None:
    given: list[torch.Tensor] = []
    model = tiny_model(model_type)
    model.model.text_backbone.register_forward_pre_hook(lambda _, args: given.extend(args))

    with torch.inference_mode():
        ReferenceForward(model, PROCESSOR).answer(pictures(1), TEXT)

    mask, positions = given[1], given[3]
    assert positions.tolist() == [[0, 0, 1, 2, 0, 1, 0, 1, 2, 3, 0, 1, 0]]
    assert mask[0, 0].sum(1).tolist() == [1, 3, 3, 3, 2, 2, 4, 4, 4, 4, 2, 2, 1]


def test_boxes_and_logits_are_float32_and_boxes_finer_than_bfloat16() -> None:
    forward = FastForward(tiny_model("grounding-dino").bfloat16(), PROCESSOR)

    with torch.inference_mode():
        logits, boxes = forward.answer(forward.see(pictures(1).bfloat16()), forward.read(TEXT))

    assert (logits.dtype, boxes.dtype) == (torch.float32, torch.float32)
    assert (boxes != boxes.bfloat16().float()).float().mean() > 0.9
