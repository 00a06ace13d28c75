"""Scenes: the same from the same seed, exact about what is visible, and steady while tools move."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from autolabel.sandbox.scenes import MATERIALS, Mask, draw
from autolabel.sandbox.tools import TOOLS

NAMES = [f"{material} {tool}" for material in MATERIALS for tool in TOOLS]
SEEDS = range(40, 46)


def holes(mask: Mask) -> int:
    """Parts of the background that do not reach the border."""
    padded = np.pad(~mask, 1, constant_values=True)
    return int(cv2.connectedComponents(padded.view(np.uint8), connectivity=4)[0]) - 2


@pytest.mark.parametrize("time_s", [0.0, 2.5])
def test_a_scene_is_drawn_from_its_seed_alone(time_s: float) -> None:
    one, other = (draw(7, 160, 120, NAMES, time_s) for _ in range(2))

    np.testing.assert_array_equal(one.rgb, other.rgb)
    assert [(seen.name, seen.id) for seen in one.objects] == [(seen.name, seen.id) for seen in other.objects]
    assert (draw(8, 160, 120, NAMES, time_s).rgb != one.rgb).any()


@pytest.mark.parametrize("size_px", [(160, 120), (128, 72), (90, 160)])
def test_no_pixel_belongs_to_two_tools_and_every_tool_is_asked_for(size_px: tuple[int, int]) -> None:
    for seed in SEEDS:
        scene = draw(seed, *size_px, NAMES[:20])
        assert scene.rgb.shape == (size_px[1], size_px[0], 3)
        covered = sum((seen.mask.astype(int) for seen in scene.objects), np.zeros(scene.rgb.shape[:2], int))
        assert covered.max(initial=0) <= 1
        assert {seen.name for seen in scene.objects} <= set(NAMES[:20])


def test_tools_keep_their_id_and_name_while_they_move_a_little_from_frame_to_frame() -> None:
    moved = 0
    for seed in SEEDS:
        before = {seen.id: seen for seen in draw(seed, 160, 120, NAMES, 1.0).objects}
        after = {seen.id: seen for seen in draw(seed, 160, 120, NAMES, 1.04).objects}
        for key in before.keys() & after.keys():
            assert before[key].name == after[key].name
            changed = np.count_nonzero(before[key].mask ^ after[key].mask)
            assert changed < 0.4 * np.count_nonzero(before[key].mask) + 20
            moved += changed > 0
    assert moved


def test_tools_come_in_and_leave_while_the_cloth_stays() -> None:
    ids = [
        {seen.id for seen in draw(seed, 160, 120, NAMES, time_s).objects} for seed in SEEDS for time_s in (0.0, 6.0)
    ]

    assert any(late - early for early, late in zip(ids[::2], ids[1::2], strict=True))
    assert any(early - late for early, late in zip(ids[::2], ids[1::2], strict=True))
    first, later = (draw(40, 160, 120, NAMES, time_s) for time_s in (0.0, 0.5))
    bare = ~np.any([seen.mask for scene in (first, later) for seen in scene.objects], axis=0)
    assert np.median(np.abs(first.rgb[bare].astype(int) - later.rgb[bare])) <= 12


@pytest.mark.parametrize("tool", ["scissors", "needle holder", "clamp"])
def test_handles_are_rings_with_holes(tool: str) -> None:
    scenes = [draw(seed, 320, 240, [f"red {tool}"]) for seed in SEEDS]

    assert max(holes(seen.mask) for scene in scenes for seen in scene.objects) >= 2
