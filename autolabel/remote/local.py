"""Pictures and videos on this machine, as rows: what `source` is for a project."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
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


def local_rows(paths: Sequence[Path]) -> tuple[list[LabelRow], int]:
    """A row a file, once: those named, and in folders, at any depth, those with the suffix of a picture or a video,
    sorted. Second, how many other files the folders hold; hidden ones do not count.

    Raises PermanentUsageError where a path does not exist, cannot be read or nothing of the kind is found.
    """
    named = [path for path in paths if not _is_folder(path)]
    titles = {path.absolute(): path.name for path in named}
    others: set[Path] = set()
    for root in (path for path in paths if path not in named):
        for path in _files(root):
            if path.suffix.lower() in SUFFIXES:
                titles.setdefault(path.absolute(), str(path.relative_to(root)))
            else:
                others.add(path.absolute())
    if not titles:
        raise PermanentUsageError(f"no pictures and no videos in {', '.join(map(str, paths))}; nothing was done")
    return [_row(path, readable(title)) for path, title in titles.items()], len(others)


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere: names are bytes, and not all of them UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise PermanentUsageError(f"there is no {path}; nothing was done") from None
    except OSError as error:
        raise _unreadable(error) from None


def _files(root: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise _unreadable(error)

    found = (Path(folder, name) for folder, _, names in os.walk(root, onerror=stop) for name in names)
    return sorted(path for path in found if not path.name.startswith("."))


def _unreadable(error: OSError) -> PermanentUsageError:
    return PermanentUsageError(f"{error.filename} cannot be read ({error.strerror}); nothing was done")


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


def link_local(row: LabelRow, folder: Path, max_pixels: int) -> list[Clip]:
    """Spool a row of `local_rows`: a link, so that whoever clears the spool leaves the file alone.

    Raises PermanentMediaError for what is no picture or video.
    """
    path = Path(row.item_uuid)
    width_px, height_px, video_frames = measure(path) if row.is_video else (*upright_size_px(path, max_pixels), None)
    link = Path(tempfile.mkdtemp(dir=folder)) / "link"
    link.symlink_to(path)
    return [Clip(row.data_hash, link, range(video_frames or 1), width_px, height_px, video_frames)]
