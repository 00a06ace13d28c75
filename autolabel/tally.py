"""What a run has done so far, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

OVERTAKEN = "a run that took them over"
"""Under which rows stand that this run had, until it stood still for too long."""


@dataclass
class Tally:
    """What became of the rows of a run so far; counters of objects and detections are by class feature hash.

    - `elsewhere`: rows that other runs work on or settled, by the run.
    - `put_off`: data hashes of rows whose files were not to be had, or whose tasks the platform did not move on.
    - `held_back`: inferred rows that are not written now, by limit.
    - `speed`: how long it took and what it waited for, once it is over; see `stages.speed_of`.
    """

    labelled: int = 0
    empty: int = 0
    inferred_frames: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    dropped_by_cap: Counter[str] = field(default_factory=Counter)
    dropped_without_mask: Counter[str] = field(default_factory=Counter)
    dropped_short_tracks: Counter[str] = field(default_factory=Counter)
    left_alone: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    put_off: set[str] = field(default_factory=set)
    held_back: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    stopped_by: str | None = None
    speed: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> int:
        return self.labelled + self.empty + self.left_alone.total() + self.set_aside.total() + self.elsewhere.total()
