"""How many pictures are taken at once on the CPU: as many as asked for by small models, one by large ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from autolabel.models.room import SMALL_BYTES, room_for

FRAMES = [(i, np.zeros((2, 4, 3), np.uint8)) for i in range(8)]


@pytest.mark.parametrize(("size_bytes", "parts"), [(4000, [8]), (SMALL_BYTES, [1] * 8)])
def test_large_models_take_one_at_a_time_on_the_cpu(tmp_path: Path, size_bytes: int, parts: list[int]) -> None:
    (tmp_path / "small.safetensors").touch()
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.touch()
    os.truncate(weights, size_bytes)  # sparse: it takes no room
    room = room_for("cpu", [tmp_path / "small.safetensors", weights.parent], 8)
    assert [len(part) for part in room.split(FRAMES)] == parts
