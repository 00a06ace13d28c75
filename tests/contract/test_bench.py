"""The bench on small frames: every contestant does the whole job, their answers agree, FLOPs are counted rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from autolabel.models import Placement
from autolabel.models.weights import locate
from autolabel.protocols import Clip
from autolabel.remote.frames import MediaReader
from benching.contestants import Job, Ours, contestants
from benching.footage import as_film, drawn
from benching.meter import Meter, count_flops
from benching.speed import cases_of, main, make_job, parsed, run
from benching.speed_report import OURS, PUBLIC, REFERENCE, Case

CPU = torch.device("cpu")
CASE = Case("bundled", 128, 96, boxes=2, batch=1, precision="fp32", rounds=1)


def test_all_contestants_do_all_stages_and_answer_alike(tmp_path: Path) -> None:
    entered = contestants(locate("bundled:detector"), locate("bundled:segmenter"), CPU, "fp32")

    figures = run(CASE, make_job(CASE, tmp_path), entered, Meter(CPU))

    assert not isinstance(figures, str)
    assert [it.name for it in figures] == [PUBLIC, REFERENCE, OURS]
    assert all({len(costs) for costs in it.costs.values()} == {1} and len(it.costs) == 5 for it in figures)
    for earlier, agreement in figures[-1].agreements.items():
        assert agreement.box_error_norm < 1e-3, earlier
        assert agreement.mask_iou > 0.97, earlier


class Hungry(Ours):
    """Has memory for the detector and none for the segmenter."""

    def segment(self, job: Job) -> list[Any]:
        raise torch.OutOfMemoryError("Tried to allocate 9 GiB.\nMore of it")


def test_who_ran_out_of_memory_is_told_in_one_line(tmp_path: Path) -> None:
    hungry = Hungry(OURS, locate("bundled:detector"), locate("bundled:segmenter"), Placement("cpu"))

    left_out = run(CASE, make_job(CASE, tmp_path), [hungry], Meter(CPU))

    assert left_out == "ours ran out of memory: Tried to allocate 9 GiB."


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_flops_are_torchs_count_and_attention_on_the_cpu_as_well(mode: type[torch.no_grad]) -> None:
    linear, convolution = torch.nn.Linear(8, 16), torch.nn.Conv2d(3, 4, 3)
    tokens, picture = torch.randn(5, 8), torch.randn(2, 3, 9, 9)
    heads = torch.randn(1, 2, 8, 4)

    def call() -> None:
        convolution(picture)
        torch.einsum("ij,kj->ik", linear(tokens), linear(tokens))

    with FlopCounterMode(display=False) as torchs:
        call()
    with mode():
        assert count_flops(call) == torchs.get_total_flops()
        attention = count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads))
    assert attention == 2 * (2 * 2 * 8 * 8 * 4)


def test_a_film_holds_each_picture_once_in_order(tmp_path: Path) -> None:
    pictures = drawn(3, 96, 64)

    film = Clip("film", as_film(pictures, tmp_path / "film.mp4"), range(3), 96, 64, video_frames=3)
    frames = dict(MediaReader(1_000_000).read(film))

    nearest = [np.argmin([abs(frames[i].astype(int) - other).mean() for other in pictures]) for i in range(3)]
    assert nearest == [0, 1, 2]


def test_a_choice_of_axes_is_every_combination_of_what_was_named() -> None:
    asked = "--pairs bundled tiny+b --boxes 1 8 --sizes 640x360 --batches 2 --rounds 4"
    wanted = parsed(asked.split(" "))

    cases = cases_of(wanted, CPU)

    assert [(case.pair, case.boxes) for case in cases] == [
        ("bundled", 1),
        ("bundled", 8),
        ("tiny+b", 1),
        ("tiny+b", 8),
    ]
    assert {(case.width_px, case.height_px, case.batch, case.rounds, case.precision) for case in cases} == {
        (640, 360, 2, 4, "fp32")
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sizes", "1333x800"],
        ["--sizes", "00x00"],
        ["--sizes", "4K"],
        ["--vocabulary", "no/such/file"],
        ["--pairs", "sam"],
        ["--rounds", "0"],
        ["--boxes", "8", "0"],
        ["--batches", "0"],
        ["--threads", "-1"],
        ["--out", "no/such/folder/bench.json"],
        ["--out", "."],
    ],
)
def test_bad_arguments_end_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "error: argument" in capsys.readouterr().err.splitlines()[-1]


def test_a_device_that_is_not_there_ends_in_one_line() -> None:
    with pytest.raises(SystemExit, match="bench: there is no device 'cuda:7' here"):
        main(["--device", "cuda:7"])
