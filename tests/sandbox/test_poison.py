"""Pictures that end the models or the decoder, through the command line: they are set aside, the others finish.

The libraries that turn on us are doubles of what Python loads for us in each process: `sitecustomize` is loaded by
the inference process, which inherits our environment, and `olefile` by Pillow, in the process that decodes.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from encord.objects import OntologyStructure, Shape

from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project, picture

HOSTILE = """
import os
import PIL.Image
from PIL import ImageFile

def turn_on_us(owner, name, height):
    kind = getattr(owner, name)
    def hostile(self, *args, **options):
        if self.size == (101, height):
            os.abort()
        if self.size == (102, height):
            held = [bytearray(b"x") * (1 << 28) for _ in range(80)]
        return kind(self, *args, **options)
    setattr(owner, name, hostile)
"""
IN_MODELS = HOSTILE + 'turn_on_us(PIL.Image.Image, "resize", 70)\n'
IN_DECODER = HOSTILE + 'turn_on_us(ImageFile.ImageFile, "load", 60)\n'
SIZES = {
    (101, 60): "crash",  # of the decoder
    (102, 60): "too_large",
    (102, 70): "crash",  # of the inference process
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(IN_MODELS)
    (folder / "olefile.py").write_text(IN_DECODER)
    return folder


def test_pictures_that_end_the_models_or_the_decoder_are_set_aside_and_the_others_finish(
    start: Start, tmp_path: Path, hostile: Path
) -> None:
    push = Command(start("empty"), tmp_path / "home")
    sizes = [*SIZES, *((110, height) for height in range(60, 66))]
    files = [picture(tmp_path / f"{width}x{height}.png", width, height) for width, height in sizes]
    structure = OntologyStructure()
    structure.add_object("scissors", Shape.BOUNDING_BOX)
    project = make_project(push.sandbox, structure, files)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(hostile), *sys.path]),
        "AUTOLABEL_MAX_WORKER_BYTES": str(3 << 29),
        "AUTOLABEL_REPORT_IMAGES": "off",
    }

    done = push("push", "--yes", "--json", "--project", project.project_hash, **environment)

    result = json.loads(done.stdout)
    print(*result["messages"], sep="\n")
    assert done.returncode == 3, done.stderr
    assert result["set_aside"] == Counter(SIZES.values())
    assert result["labelled"] + result["empty"] == len(files) - len(SIZES)
    assert all(any(name in message for message in result["messages"]) for name in ("101x60", "102x60", "102x70"))
