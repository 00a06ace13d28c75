"""Real photos, uploaded through the SDK and pushed: every row ends somewhere, sizes and orientation are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from encord.objects import OntologyStructure, Shape
from PIL import Image, ImageOps

from pictures import RED_XYXY_NORM, two_swabs
from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared" / "data" / "coco128_free" / "images"


def ontology(*names: str) -> OntologyStructure:
    structure = OntologyStructure()
    for i, name in enumerate(names):
        structure.add_object(name, (Shape.BOUNDING_BOX, Shape.BITMASK)[i % 2])
    return structure


def keen(folder: Path) -> str:
    """The demo's recipe with a low threshold: that the small models find something is the point, not what."""
    recipe = (ROOT / "configs" / "demo.yaml").read_text().replace("threshold: 0.2", "threshold: 0.15")
    (folder / "keen.yaml").write_text(recipe)
    return str(folder / "keen.yaml")


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the real photos are not beside this checkout")
def test_real_photos_all_end_done_or_with_a_reason(start: Start, tmp_path: Path) -> None:
    push = Command(start("empty"), tmp_path / "home")
    files = sorted(PHOTOS.glob("*.jpg"))
    project = make_project(push.sandbox, ontology("scissors", "white gauze"), files)
    done = push("push", "--yes", "--json", "--project", project.project_hash, "--config", keen(tmp_path))
    result = json.loads(done.stdout)
    ends = ("labelled", "empty", "left_alone", "set_aside", "pending", "objects", "messages")
    print(f"exit {done.returncode}: { ({key: result[key] for key in ends}) }")
    assert done.returncode in (0, 3), done.stderr
    assert result["labelled"] + result["empty"] + sum(result["set_aside"].values()) == result["total"] == len(files)
    rows = {row.data_title: row for row in project.list_label_rows_v2()}
    assert len(rows) == len(files)
    for path in files:
        with Image.open(path) as image:
            assert (rows[path.name].width, rows[path.name].height) == ImageOps.exif_transpose(image).size


def test_a_turned_photo_is_labelled_where_it_is_seen(start: Start, tmp_path: Path) -> None:
    """The same scene stored under every EXIF orientation gets its label at the same place."""
    push = Command(start("empty"), tmp_path / "home")
    classes = ontology("red gauze", "red scissors", "white gauze")
    photos = [turned(tmp_path / f"{orientation}.png", orientation) for orientation in range(1, 9)]
    project = make_project(push.sandbox, classes, photos)
    done = push("push", "--yes", "--project", project.project_hash, "--config", keen(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = project.list_label_rows_v2()
    assert len(rows) == len(photos)
    for row in rows:
        assert (row.width, row.height) == (240, 200), row.data_title
        row.initialise_labels()
        box = row.get_object_instances()[0].get_annotations()[0].coordinates
        seen = [box.top_left_x, box.top_left_y, box.top_left_x + box.width, box.top_left_y + box.height]
        assert seen == pytest.approx(np.array(RED_XYXY_NORM) * [2, 1, 2, 1], abs=0.06), row.data_title


def turned(path: Path, orientation: int) -> Path:
    """The left half of the two swabs, 240x200, stored so that only its EXIF tag makes it upright."""
    scene = np.ascontiguousarray(two_swabs(480, 200)[:, :240])
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(scene)
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif)
    return path
