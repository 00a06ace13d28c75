"""How runs ended, and when several in a row are a reason to worry: rows to label each time, and nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autolabel.core.limits import Limit

WORRYING_RUNS = 3
EXIT_PARTIAL = 3
"""Exit code of a command that set rows aside, or left some."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: `summary` as `sync.Run` gives it, None where it was killed; `wrote`: a receipt names it."""

    run_id: str
    summary: Mapping[str, Any] | None
    wrote: bool = False

    @property
    def has_written(self) -> bool:
        return self.wrote or bool(self.summary and self.summary["labelled"])

    @property
    def had_work(self) -> bool:
        """Whether it had rows for itself; not those of other runs, nor any once a day's objects were written."""
        if self.summary is None:
            return True
        rows = self.summary.get("eligible", 0) - sum(self.summary.get("elsewhere", {}).values())
        return rows > 0 and Limit.MAX_OBJECTS_A_DAY not in self.summary["held_back"]

    @property
    def why(self) -> str:
        """Why it wrote nothing, in a few words."""
        if self.summary is None:
            return "killed"
        if self.summary["stopped_by"]:
            return str(self.summary["stopped_by"])
        counts = {"nothing found": self.summary["empty"], **self.summary["set_aside"], **self.summary["held_back"]}
        reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.items() if count)
        return reasons or f"waiting: {self.summary['pending']}"


def worrying(endings: Sequence[Ending]) -> list[Ending]:
    """Of a project's runs, newest first: the latest in a row that had work and wrote none of it, if WORRYING_RUNS.

    Runs without any work do not count either way.
    """
    row: list[Ending] = []
    for ending in endings:
        if ending.has_written or len(row) == WORRYING_RUNS:
            break
        if ending.had_work:
            row.append(ending)
    return row if len(row) == WORRYING_RUNS else []
