"""How much of what waits a run may take up: the arithmetic of the limits that an operator sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

DAY_S = 86_400.0


class Limit(StrEnum):
    """Why a row that could be labelled is left to a later run."""

    MAX_MINUTES = "max_minutes"
    MAX_OBJECTS_A_DAY = "max_objects_a_day"
    MAX_WAITING = "max_waiting"


LIMIT_TEXT = {
    Limit.MAX_MINUTES: "the time of this run is over (AUTOLABEL_MAX_MINUTES)",
    Limit.MAX_OBJECTS_A_DAY: "as many objects as a day may have are written (AUTOLABEL_MAX_OBJECTS_A_DAY)",
    Limit.MAX_WAITING: "enough pre-labelled rows wait for annotators (AUTOLABEL_MAX_WAITING)",
}


@dataclass(frozen=True)
class Room:
    """What counts against a project's limits when a run begins; a limit that is None does not hold.

    - `waiting`: pre-labelled rows at the first annotators' stage, which is called `stage`.
    - `written`: objects written in the last DAY_S.
    """

    max_waiting: int | None = None
    waiting: int = 0
    stage: str = ""
    max_objects_a_day: int | None = None
    written: int = 0

    def hold_back(self, rows: int, first_objects: int = 0) -> dict[Limit, int]:
        """How many of so many rows are not to be taken up, by limit; the first written has so many objects."""
        held: dict[Limit, int] = {}
        if self.max_waiting is not None:
            held[Limit.MAX_WAITING] = rows - min(rows, max(0, self.max_waiting - self.waiting))
        cap = self.max_objects_a_day
        if cap is not None and (self.written >= cap or not rows_within_cap([first_objects], cap, self.written)):
            held[Limit.MAX_OBJECTS_A_DAY] = rows - sum(held.values())
        return {limit: count for limit, count in held.items() if count}

    def explain(self, limit: Limit) -> str:
        """Why it holds rows back, in figures."""
        if limit == Limit.MAX_WAITING:
            return f"brake: {self.waiting} pre-labelled rows wait at {self.stage}, at most {self.max_waiting} may"
        return f"daily cap: {self.written} of {self.max_objects_a_day} objects were written in the last 24 hours"


def rows_within_cap(objects: Sequence[int], cap: int, written: int) -> int:
    """How many of the first rows may be written, each with so many objects, after `written` of `cap` in a day.

    The first that does not fit stops all behind it, or large rows would wait for ever. One with more objects than the
    whole cap is written where nothing else was, or it never would be.
    """
    for place, count in enumerate(objects):
        if written and written + count > cap:
            return place
        written += count
    return len(objects)
