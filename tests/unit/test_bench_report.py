"""The bench's own judgement: what counts as equal, how figures become a table, and where its boxes lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.geometry import box_iou
from benching.agreement import box_error_norm, distinct, mask_iou
from benching.footage import grid
from benching.speed_report import OURS, PUBLIC, REFERENCE, Case, Cost, Figures, Piece, Report, publish

CASE = Case("bundled", 640, 360, boxes=8, batch=2, precision="fp32", rounds=3)
FLOPS = {PUBLIC: 4_000_000_000, REFERENCE: 4_000_000_000, OURS: 2_000_000_000}


def figures(name: str, seconds: float) -> Figures:
    """Two frames a call; one round of three met a busy machine."""
    found = Figures(name, 2, FLOPS[name])
    for stage in ("detect", "segment", "convert", "from files", "from MP4"):
        for took_s in (seconds, 9 * seconds, seconds):
            found.add(stage, Cost(2 * took_s, took_s, 3 << 20))
    return found


def report(clock: str) -> Report:
    found = Report("a device", clock, 1, {"torch": "2"}, {"fp32": 1e12})  # type: ignore[arg-type]
    found.cases.append((CASE, [figures(PUBLIC, 0.4), figures(REFERENCE, 0.2), figures(OURS, 0.1)]))
    return found


def row(lines: list[str], name: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(f"| {name} |"))
    return line.strip("| ").split(" | ")[1:]


@pytest.mark.parametrize(
    ("clock", "detect_ms", "of_the_floor"), [("cpu", "50", "1%"), ("wall", "100", "1%")], ids=["CPU", "GPU"]
)
def test_medians_are_given_by_frame_in_the_clock_of_the_device(clock: str, detect_ms: str, of_the_floor: str) -> None:
    cells = row(list(report(clock).lines()), OURS)

    assert cells[:5] == [detect_ms] * 5
    assert cells[5:10] == ["10", "0.05", "3 MiB", of_the_floor, "4.00x"]


def test_the_floor_is_that_of_the_models_own_algebra() -> None:
    (line,) = (line for line in report("cpu").lines() if line.startswith("**bundled"))

    assert "2 GFLOP a frame (1 in ours) at 1 TFLOP/s: floor 2 ms" in line


def test_a_case_without_figures_keeps_its_place_and_says_why() -> None:
    found = report("cpu")
    found.cases.insert(0, (replace(CASE, batch=32), "ours ran out of memory: tried 9 GiB"))

    lines = list(found.lines())

    assert lines[2] == "**bundled, 640x360, 8 boxes, batch 32, fp32**: left out, ours ran out of memory: tried 9 GiB"
    assert lines[4].startswith("**bundled, 640x360, 8 boxes, batch 2, fp32**: 2 GFLOP")


def test_finished_cases_are_printed_once_and_kept_when_a_later_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def growing() -> Iterator[Report]:
        found = report("cpu")
        yield found
        found.cases.append((replace(CASE, batch=32), "ours ran out of memory"))
        yield found
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(growing(), tmp_path / "bench.json")

    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [case["batch"] for case, _ in kept["cases"]] == [2, 32]
    assert kept["cases"][1][1] == "ours ran out of memory"
    printed = capsys.readouterr().out
    assert (printed.count("batch 2,"), printed.count("batch 32,")) == (1, 1)


def test_a_piece_is_judged_by_its_median_round() -> None:
    found = report("cpu")
    theirs, ours = ([Cost(0, seconds, 0) for seconds in times] for times in ((0.6, 0.6, 6), (0.1, 0.01, 0.1)))
    found.pieces.append(Piece("a step", 5, theirs, ours, "equal"))

    assert "| a step | 600 | 100 | **6.0** | 5 | equal |" in list(found.lines())


def test_boxes_are_held_against_the_nearest_and_each_of_ours_must_have_one() -> None:
    theirs = np.array([[0, 0, 10, 10], [50, 50, 100, 100]], np.float32)

    assert box_error_norm(theirs[:1] + np.float32(1), theirs, (100, 200)) == pytest.approx(0.01)
    assert box_error_norm(theirs, theirs[:1], (100, 200)) == pytest.approx(0.9)
    assert box_error_norm(theirs, theirs[:0], (100, 200)) == 1
    assert box_error_norm(theirs[:0], theirs, (100, 200)) == 0


def test_the_same_box_again_is_no_further_evidence() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0.2, 10, 10], [0, 0, 12, 10]], np.float32)

    assert distinct(boxes) == 2
    assert distinct(boxes[:0]) == 0


def test_masks_without_a_pixel_agree_with_each_other_only() -> None:
    none, some = np.zeros((2, 2), np.bool_), np.eye(2, dtype=np.bool_)

    assert (mask_iou(none, none), mask_iou(none, some), mask_iou(some, some)) == (1, 0, 1)


@given(count=st.integers(1, 40), width_px=st.integers(64, 4000), height_px=st.integers(64, 4000))
def test_boxes_to_segment_lie_in_the_frame_and_apart(count: int, width_px: int, height_px: int) -> None:
    boxes = grid(count, width_px, height_px)

    assert len(boxes) == count
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [width_px, height_px, width_px, height_px]).all()
    assert (box_iou(boxes, boxes)[~np.eye(count, dtype=bool)] == 0).all()
