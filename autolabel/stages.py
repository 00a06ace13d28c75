"""How busy each stage of a run was, and which one it waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """What a frame goes through, in this order; `RECORD` is what keeps the ledger before and after inference."""

    DOWNLOAD = "download"
    DECODE = "decode"
    INFER = "infer"
    RECORD = "record"
    ASSEMBLE = "assemble"
    DELIVER = "deliver"


STAGE_TEXT = {
    Stage.DOWNLOAD: "downloads",
    Stage.DECODE: "decoding",
    Stage.INFER: "the models",
    Stage.RECORD: "the ledger",
    Stage.ASSEMBLE: "assembling",
    Stage.DELIVER: "delivery",
}


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

    def speed(self, frames: int, threads: Mapping[Stage, int]) -> dict[str, Any]:
        """From the start until now: see `speed_of`."""
        with self._lock:
            return speed_of(self._clock() - self._began_s, self._busy_s, frames, threads)


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
    """One line: `12.3 frames a second; the models were the limit (busy 97 % of the time); downloads 41 %, ...`."""
    if speed["limit"] is None:
        return ""
    shares = {Stage(name): found["utilisation"] for name, found in speed["stages"].items()}
    limit = Stage(speed["limit"])
    others = ", ".join(f"{STAGE_TEXT[stage]} {share:.0%}" for stage, share in shares.items() if stage != limit)
    verb = "was" if limit in (Stage.DECODE, Stage.RECORD, Stage.ASSEMBLE, Stage.DELIVER) else "were"
    busy = f"busy {shares[limit]:.0%} of the time"
    rate = f"{speed['frames_per_second']:.1f} frames a second in {speed['seconds']:.0f} s"
    return f"{rate}; {STAGE_TEXT[limit]} {verb} the limit ({busy}); {others}".replace("%", " %")
