"""What is truly to be seen in the demo's frames: COCO instances, and the tracks of videos."""

from collections.abc import Iterable, Sequence

import numpy as np

from autolabel.sandbox.scenes import Mask, Scene
from autolabel.sandbox.store import Json


def coco(classes: Iterable[str], frames: Iterable[tuple[str, Scene]]) -> Json:
    """COCO instances of these classes in (file name, scene); things of other classes are just scenery.

    A file name is "<data hash>/<frame>". `track_id` is the same wherever an object is seen in one video.
    """
    ids = {name: i for i, name in enumerate(classes, 1)}
    images: list[Json] = []
    annotations: list[Json] = []
    for image_id, (file_name, scene) in enumerate(frames, 1):
        height, width = scene.rgb.shape[:2]
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        annotations += [
            {
                "image_id": image_id,
                "category_id": ids[name],
                "track_id": track_id,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": list(box_px(mask)),
                "segmentation": {"size": [height, width], "counts": _column_runs(mask)},
            }
            for name, mask, track_id in scene.objects
            if name in ids
        ]
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)]
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    return {"images": images, "annotations": numbered, "categories": categories}


def on_show_each_second(times_s: Sequence[float]) -> dict[int, float]:
    """The frame that is on show at 0, 1, 2 ... seconds, and when it came on; `times_s` rises from 0."""
    seconds = np.arange(int(times_s[-1]) + 1)
    shown = np.searchsorted(times_s, seconds, side="right") - 1
    return {int(frame): times_s[frame] for frame in shown}


def box_px(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height of the smallest box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _column_runs(mask: Mask) -> list[int]:
    """COCO's uncompressed RLE: run lengths down the columns, the first one of zeros."""
    flat = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()
    return runs
