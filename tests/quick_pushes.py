"""Pushes in this process, over real HTTP to a sandbox, with a fake in place of the models: under a second each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.core.rows import LabelRow
from autolabel.database import Database
from autolabel.ledger import Ledger
from autolabel.plan import Options, make_plan
from autolabel.protocols import Clip, ClipAnswer, Pending
from autolabel.recipe import ModelChoice, Recipe, RecipeConfig
from autolabel.remote.client import connect, read_key_file
from autolabel.remote.sink import EncordSink
from autolabel.remote.source import EncordSource
from autolabel.sync import Ports, Run
from platform_fakes import FakeGallery


class NoMedia(EncordSource):
    """The real source, but its files are empty: nothing looks into them."""

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        path = folder / row.data_hash
        path.touch()
        return [Clip(row.data_hash, path, (0,), row.width_px, row.height_px)]


class TwoBoxes:
    """An Inference that finds the same two boxes on every picture."""

    def __init__(self, feature_hash: str) -> None:
        self._feature_hash = feature_hash

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        return [[self._frame(clip)] for clip in clips]

    def _frame(self, clip: Clip) -> FrameLabels:
        boxes = [(10.0, 10.0, 60.0, 50.0), (100.0, 90.0, 200.0, 180.0)]
        found = [Detection(self._feature_hash, "box", 0.9 - 0.1 * i, box) for i, box in enumerate(boxes)]
        return FrameLabels(0, clip.width_px, clip.height_px, tuple(found))

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return np.zeros(1)

    def close(self) -> None:
        pass


class Desk:
    """A ledger of its own, and a project from which it pushes again and again.

    `in_hand`: data hashes of the rows that the push under way has taken up; `ahead_s`: by how much the
    ledger's clock goes ahead.
    """

    def __init__(
        self, domain: str, key_file: str, project_hash: str, home: Path, sink: type[EncordSink] = EncordSink
    ) -> None:
        connection = connect(project_hash, domain, read_key_file(Path(key_file)))
        self.source = NoMedia(connection, 10**9)
        self.project = self.source.project()
        box = next(item for item in self.project.classes if item.shape == "bounding_box")
        cls = ClassPlan(box.feature_hash, box.name, "bounding_box", (box.name,), 0.3, 5)
        config = RecipeConfig(detector=ModelChoice(family="scripted", weights="none"))
        self.recipe = Recipe(config, PromptPlan((cls,)), "digest", "")
        self.sink = sink(connection, self.recipe.branch, 10**7)
        self.home = home
        self.ahead_s = 0.0
        self.in_hand: list[str] = []
        self._inference = TwoBoxes(box.feature_hash)
        self._ids = count(1)

    def push(self, **options: object) -> Run:
        chosen = Options(**options)  # type: ignore[arg-type]
        with closing(Ledger(Database(self.home / "ledger.sqlite"), lambda: time.time() + self.ahead_s)) as ledger:
            plan = make_plan(self.source, ledger, self.project, self.recipe, chosen)
            self.in_hand = [row.data_hash for row in plan.todo]
            ports = Ports(self.source, self.sink, ledger, self._inference, self.home)
            run = Run(plan, self.recipe, ports, f"run-{next(self._ids)}", FakeGallery())
            run.execute(chosen, lambda tally: None)
        return run
