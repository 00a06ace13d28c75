"""How many pictures models may take at once, told from their weights and their device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolabel.batches import Room

SMALL_BYTES = 80_000_000
"""Of weights: those of 20 million parameters. What such models take for a picture is little on any device."""


def room_for(device: str, weights: Sequence[Path], most: int) -> Room:
    """`weights`: where `weights.locate` finds them.

    Large models have a GPU's memory probed. On the CPU they gain nothing from a batch, and each picture takes
    gigabytes: one at a time there.
    """
    if all(_bytes_in(place) < SMALL_BYTES for place in weights):
        return Room(most)
    from autolabel.models.runtime import memory_of

    memory = memory_of(device)
    return Room(most, memory) if memory else Room(1)


def _bytes_in(place: Path) -> int:
    return sum(path.stat().st_size for path in (place.iterdir() if place.is_dir() else [place]))
