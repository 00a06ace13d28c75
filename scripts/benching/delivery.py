"""Our half of the cost: plan and run in one process, with a model and media that cost nothing; prints JSON.

What is left is the ledger, the sink and the SDK below them.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autolabel.bootstrap import open_session
from autolabel.core.detections import Detection, FrameLabels, Mask
from autolabel.core.geometry import mask_from_window
from autolabel.core.rows import Destination, LabelRow
from autolabel.protocols import Clip, ClipAnswer, Pending, Source
from autolabel.settings import Settings
from benching.finds import Find, find
from benching.watch import watch
from benching.world import CLASS

RECIPE = """
detector: {family: grounding_dino, weights: "bundled:detector"}
segmenter: {family: sam, weights: "bundled:segmenter"}
"""


class NoDownloads:
    """A `Source` whose media are empty files."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.project, self.rows = source.project, source.rows
        self.contents, self.drawn = source.contents, source.drawn
        self.skipped, self.new_tasks, self.abandon = source.skipped, source.new_tasks, source.abandon

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as spooled:
            return [Clip(row.data_hash, Path(spooled.name), (0,), row.width_px, row.height_px)]


@dataclass(frozen=True)
class Instant:
    """An `Inference` that has the answers ready: data hash -> labels."""

    answers: dict[str, ClipAnswer]

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return lambda: [self.answers[clip.data_hash] for clip in clips]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        raise NotImplementedError

    def close(self) -> None:
        pass


def answer(row: LabelRow, feature_hash: str) -> ClipAnswer:
    """What the fake model finds on a row, with masks."""
    size = (row.width_px, row.height_px)
    found = tuple(_detection(item, feature_hash, size) for item in find(row.data_hash.encode()))
    return [FrameLabels(0, *size, found)]


def _detection(item: Find, feature_hash: str, size_px: tuple[int, int]) -> Detection:
    left, top, right, bottom = (float(edge) for edge in np.array(item.box_xyxy_norm) * (*size_px, *size_px))
    return Detection(feature_hash, CLASS, item.score, (left, top, right, bottom), _mask(item, size_px))


def _mask(item: Find, size_px: tuple[int, int]) -> Mask:
    star = np.round(item.star_norm * size_px).astype(np.int32)
    left, top, width, height = cv2.boundingRect(star)
    pixels = np.zeros((height, width), np.uint8)
    cv2.fillPoly(pixels, [star - (left, top)], 1)
    return mask_from_window(pixels.astype(np.bool_), left, top, 0.9)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--project", required=True)
    arguments.add_argument("--to", type=Destination, required=True)
    arguments.add_argument("--write-rows", type=int, default=Settings.model_fields["write_rows"].default)
    wanted = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(RECIPE)
        settings = Settings(_env_file=None, home=Path(folder) / "home", config=str(recipe), report_images=False)
        with open_session(settings, wanted.project) as session:
            feature_hash = session.project.classes[0].feature_hash
            answers = {row.data_hash: answer(row, feature_hash) for row in session.ports.source.rows()}
            ports = replace(session.ports, source=NoDownloads(session.ports.source), inference=Instant(answers))
            session = replace(session, ports=ports)
            options = session.options(destination=wanted.to, write_rows=wanted.write_rows)
            with watch() as seen, session.running(session.plan(options)) as (run, _):
                tally = run.execute(options, lambda tally: None)
    if tally.labelled != len(answers):
        raise SystemExit(f"{tally.labelled} of {len(answers)} rows were labelled: {run.summary()}")
    print(json.dumps({"rows": tally.labelled, **seen.described()}))


if __name__ == "__main__":
    main()
