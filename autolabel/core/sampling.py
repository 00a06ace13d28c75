"""Which frames of a video are looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING_S = 1e-6
"""How far a frame's time may lie behind a tick and still count as shown at it: containers round their times."""


def sample(times_s: NDArray[np.float64], per_second: float | None) -> list[int]:
    """The frames on show at 0, 1 / per_second, 2 / per_second ... seconds, each once; None takes every frame.

    `times_s`: (N,) when each frame is shown, after the first, rising. Empty only where there are no frames.
    """
    if per_second is None or len(times_s) == 0:
        return list(range(len(times_s)))
    # A frame is taken where a tick falls between it and the next. Ticks are numbered, never listed: one absurd time
    # stamp would make more of them than memory holds.
    first_tick = np.ceil((times_s - ROUNDING_S) * per_second)
    last_tick = np.floor((times_s[-1] + ROUNDING_S) * per_second)
    shown = np.append(first_tick[:-1] < first_tick[1:], first_tick[-1] <= last_tick)
    return [int(index) for index in np.flatnonzero(shown)]


def sample_count(frames: int, frames_per_second: float | None, per_second: float | None) -> int:
    """How many frames `sample` takes of a video at a constant rate: known before the file is."""
    if per_second is None or not frames_per_second:
        return frames
    return len(sample(np.arange(frames) / frames_per_second, per_second))
