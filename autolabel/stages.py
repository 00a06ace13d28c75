"""How busy each stage of a run was, and which one it waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """What a frame goes through, in this order, once models are loaded; `RECORD` is the ledger around inference."""

    LOAD = "load"
    DOWNLOAD = "download"
    DECODE = "decode"
    INFER = "infer"
    RECORD = "record"
    ASSEMBLE = "assemble"
    DELIVER = "deliver"


LIMIT_SHARE = 0.5

STAGE_TEXT = {
    Stage.LOAD: ("loading the models", "was"),
    Stage.DOWNLOAD: ("downloads", "were"),
    Stage.DECODE: ("decoding", "was"),
    Stage.INFER: ("the models", "were"),
    Stage.RECORD: ("the ledger", "was"),
    Stage.ASSEMBLE: ("assembling", "was"),
    Stage.DELIVER: ("delivery", "was"),
}
"""What a stage is called, and whether it is one or many."""


class Meter:
    """Adds up the seconds for which each stage is busy, from any thread. `clock` tells seconds, from any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """Forget what was before."""
        with self._lock:
            self._busy_s = dict.fromkeys(Stage, 0.0)
            self._threads = dict.fromkeys(Stage, 1)
            self._began_s = self._clock()

    @contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        began_s = self._clock()
        try:
            yield
        finally:
            self.add(stage, self._clock() - began_s)

    def add(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._busy_s[stage] += seconds

    def on_threads(self, stage: Stage, threads: int) -> None:
        """A stage works on so many threads, or on more at another time."""
        with self._lock:
            self._threads[stage] = max(self._threads[stage], threads)

    def speed(self, frames: int) -> dict[str, Any]:
        """From the start until now: see `speed_of`."""
        with self._lock:
            return speed_of(self._clock() - self._began_s, self._busy_s, frames, self._threads)


def speed_of(
    wall_s: float, busy_s: Mapping[Stage, float], frames: int, threads: Mapping[Stage, int]
) -> dict[str, Any]:
    """As JSON: seconds in all, frames a second, each stage's busy seconds and share of the time, the busiest stage.

    - `threads`: on how many threads a stage works, where that is more than one; its share is that of each of them.
    - `limit`: None where nothing was inferred.
    """
    stages = {
        stage.value: {
            "busy_s": round(busy_s.get(stage, 0.0), 3),
            "utilisation": round(busy_s.get(stage, 0.0) / threads.get(stage, 1) / wall_s, 4) if wall_s else 0.0,
        }
        for stage in Stage
    }
    return {
        "seconds": round(wall_s, 3),
        "frames_per_second": round(frames / wall_s, 3) if wall_s else 0.0,
        "limit": max(stages, key=lambda name: stages[name]["utilisation"]) if frames else None,
        "stages": stages,
    }


def speed_text(speed: Mapping[str, Any]) -> str:
    """One line for people, or "" where nothing was inferred. What was idle half of the time limited nothing."""
    if not speed or speed["limit"] is None:
        return ""
    limit = Stage(speed["limit"])
    shares = {stage: f"{speed['stages'][stage]['utilisation'] * 100:.0f} %" for stage in Stage}
    name, verb = STAGE_TEXT[limit]
    role = "the limit" if speed["stages"][limit]["utilisation"] >= LIMIT_SHARE else "the busiest"
    others = ", ".join(f"{STAGE_TEXT[stage][0]} {shares[stage]}" for stage in Stage if stage != limit)
    return (
        f"{speed['frames_per_second']:.1f} frames a second; {name} {verb} {role} "
        f"(busy {shares[limit]} of the time); {others}"
    )
