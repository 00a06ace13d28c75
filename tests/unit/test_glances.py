"""What only the wiring does: a full disk is told apart from rows that cannot be had."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentDiskError
from autolabel.glances import Glance, run_preview
from autolabel.protocols import Clip
from autolabel.settings import Settings
from platform_fakes import RECIPE, make_project, make_row


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, number: int) -> None:
    def download(row: LabelRow, folder: Path) -> list[Clip]:
        raise OSError(number, os.strerror(number), str(folder / "media"))

    settings = Settings(_env_file=None).model_copy(update={"home": tmp_path, "report_images": False})
    glance = Glance(make_project(), RECIPE, [make_row("row")], download)
    with pytest.raises(PermanentDiskError, match=rf"AUTOLABEL_HOME \(.*\) is full: {os.strerror(number)}$"):
        run_preview(settings, glance, 1, lambda tally: None)
