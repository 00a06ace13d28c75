"""Pictures and videos on this machine, as rows: what `source` is for a project."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from autolabel.core.identity import digest
from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentUsageError
from autolabel.protocols import Clip
from autolabel.remote.frames import upright_size_px
from autolabel.remote.video import measure

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2"))
VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg"))
SUFFIXES = PICTURES | VIDEOS


def local_rows(paths: Sequence[Path]) -> list[LabelRow]:
    """A row a file: those named, and in folders, at any depth, those with the suffix of a picture or a video, sorted.

    Raises PermanentUsageError where a path does not exist or nothing of the kind is found.
    """
    rows = [_row(path, title) for root in paths for path, title in _files(root)]
    if not rows:
        raise PermanentUsageError(f"no pictures and no videos in {', '.join(map(str, paths))}; nothing was done")
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
        data_type="video" if path.suffix.lower() in VIDEOS else "image",
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

    Raises PermanentMediaError for what is no picture or video.
    """
    path = Path(row.item_uuid)
    width_px, height_px, video_frames = measure(path) if row.is_video else (*upright_size_px(path), None)
    link = Path(tempfile.mkdtemp(dir=folder)) / "link"
    link.symlink_to(path)
    return [Clip(row.data_hash, link, range(video_frames or 1), width_px, height_px, video_frames)]
