"""A ledger with a past, for what operators see: runs that ended in each way, looks, and runs that are owed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolabel.database import Database
from autolabel.ledger import Ledger
from autolabel.looks import Look, Looks
from autolabel.overview import Overview
from autolabel.protocols import Receipt
from autolabel.states import Job, Move, State
from autolabel.wakes import Hint, Wakes

NOW_S = 1_790_000_000.0
RECIPE = {"plan": {"classes": [{"feature_hash": "car", "name": "Car"}, {"feature_hash": "van", "name": "Van"}]}}
CALLS = {("encord", "accepted"): 40, ("encord", "refused"): 2, ("bucket", "ignored"): 1}


@dataclass
class Past:
    """Everything happens at `now_s`, which a test may put on."""

    folder: Path
    now_s: float = NOW_S

    @property
    def database(self) -> Database:
        return Database(self.folder / "ledger.sqlite")

    def overview(self, *, alive: bool = False) -> Overview:
        return Overview(self.database, lambda run_id: alive)

    def run(
        self,
        run_id: str,
        project: str = "p",
        labelled: Sequence[str] = (),
        empty: Sequence[str] = (),
        ends: Mapping[str, tuple[State, str]] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """A run that settles rows, a second each; with a summary it ends, taking 100 s, else it was killed.

        - `ends`: data hash -> how and for what reason it is left to people or set aside.
        """
        job, others = Job(project, "r" * 64, "main"), dict(ends or {})
        with closing(Ledger(self.database, lambda: self.now_s)) as ledger:
            ledger.start_run(run_id, job, f"Title of {project}", RECIPE)
            ledger.claim(job, run_id, [*labelled, *empty, *others], ledger.records(job))
            ledger.move(job, run_id, [Move(key, State.INFERRED) for key in (*labelled, *empty)])
            ledger.move(job, run_id, [Move(key, State.INTENT, intent_digest="d") for key in labelled])
            ledger.move(job, run_id, [Move(key, State.WRITTEN, receipt=_receipt(key)) for key in labelled])
            ledger.move(job, run_id, [Move(key, State.DONE) for key in (*labelled, *empty)])
            ledger.move(job, run_id, [Move(key, *how, f"{key}.png: is damaged") for key, how in others.items()])
            if summary is not None:
                self.now_s += 100
                ledger.finish_run(run_id, self.summary(run_id, len(labelled), len(empty)) | dict(summary))

    def summary(self, run_id: str, labelled: int, empty: int) -> dict[str, Any]:
        stages = {"infer": {"busy_s": 60.5, "utilisation": 0.605}, "deliver": {"busy_s": 9.5, "utilisation": 0.095}}
        speed = {"seconds": 100.0, "frames_per_second": 2.5, "limit": "infer", "stages": stages}
        return {
            "run": run_id,
            "labelled": labelled,
            "empty": empty,
            "pending": 0,
            "objects": {"car": 3 * labelled},
            "inferred_frames": 250,
            "stopped_by": None,
            "speed": speed,
            "remote_calls": {"200": 20, "429": 1},
        }

    def look(self, project: str = "p", called_by: str = "cron", **values: Any) -> None:
        with closing(Looks(self.database, lambda: self.now_s)) as looks:
            looks.note(Look(project, called_by, **values))

    def wake(self, project: str = "p", place: str = "stage") -> None:
        with closing(Wakes(self.database, lambda: self.now_s)) as wakes:
            wakes.request(Hint(project, place))


def _receipt(data_hash: str) -> Receipt:
    return Receipt("main", f"label-{data_hash}", {f"{data_hash}-{number}": "car" for number in range(3)}, "digest")
