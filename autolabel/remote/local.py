"""Pictures on this machine, as rows: what `source` is for a project."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from autolabel.core.identity import digest
from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentUsageError
from autolabel.protocols import Clip
from autolabel.remote.frames import upright_size_px

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2"))


def local_rows(paths: Sequence[Path]) -> list[LabelRow]:
    """A row a file: those named, and in folders, at any depth, those with a picture's suffix, sorted.

    Raises PermanentUsageError where a path does not exist or no picture is found.
    """
    rows = [_row(path, title) for root in paths for path, title in _files(root)]
    if not rows:
        raise PermanentUsageError(f"no pictures in {', '.join(map(str, paths))}; nothing was done")
    return rows


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    if not root.exists():
        raise PermanentUsageError(f"there is no {root}; nothing was done")
    if root.is_dir():
        found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        yield from ((path, str(path.relative_to(root))) for path in found)
    else:
        yield root, root.name


def _row(path: Path, title: str) -> LabelRow:
    """The path stands where a project's row names its item; sizes are read when it is looked at."""
    where = str(path.absolute())
    return LabelRow(
        data_hash=digest(where),
        title=title,
        data_type="image",
        dataset_title="",
        width_px=0,
        height_px=0,
        frames=1,
        priority=0.0,
        label_hash=None,
        stage_uuid="",
        assigned_to=None,
        item_uuid=where,
    )


def link_local(row: LabelRow, folder: Path) -> list[Clip]:
    """Spool a row of `local_rows`: a link, so that whoever clears the spool leaves the file alone.

    Raises PermanentMediaError for what is no picture.
    """
    path = Path(row.item_uuid)
    width_px, height_px = upright_size_px(path)
    link = Path(tempfile.mkdtemp(dir=folder)) / "picture"
    link.symlink_to(path)
    return [Clip(row.data_hash, link, (0,), width_px, height_px)]
