"""Media through the real SDK over HTTP: whose files come, how many requests that takes, what trouble costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from encord.objects import OntologyStructure, Shape

from autolabel.core.rows import LabelRow, Reason
from autolabel.errors import (
    Interrupted,
    PermanentAccessError,
    PermanentMediaError,
    TransientMediaError,
    TransientServiceError,
)
from autolabel.remote.client import connect, read_key_file
from autolabel.remote.source import EncordSource
from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import make_project, picture

SIGN_ITEM = {"path_contains": "get-bulk"}
BLOB = {"path_contains": "/blobs/"}


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("empty")


def opened(
    sandbox: RunningSandbox,
    files: Sequence[Path | Sequence[Path]],
    max_media_bytes: int = 10**9,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[EncordSource, list[LabelRow]]:
    """The source of a fresh project of these files, and its rows."""
    structure = OntologyStructure()
    structure.add_object("blue syringe", Shape.BOUNDING_BOX)
    project = make_project(sandbox, structure, files)
    connection = connect(project.project_hash, sandbox.domain, read_key_file(Path(sandbox.ssh_key_file)))
    source = EncordSource(connection, max_media_bytes, clock)
    return source, source.rows()


def requests_made(sandbox: RunningSandbox, since: int, word: str) -> int:
    entries = sandbox.log(since)
    return sum(word in entry["path"] or word == entry.get("query_type") for entry in entries if "path" in entry)


def test_the_frames_of_a_group_that_share_a_name_keep_their_own_files(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    files = [tmp_path / folder / "frame.png" for folder in ("first", "second", "third")]
    for path, width in zip(files, (100, 200, 300), strict=True):
        path.parent.mkdir()
        picture(path, width)
    source, (row,) = opened(sandbox, [files])
    clips = source.download(row, tmp_path)
    assert [clip.path.read_bytes() for clip in clips] == [path.read_bytes() for path in files]
    assert [(clip.width_px, clip.frame_indices) for clip in clips] == [(100, (0,)), (200, (1,)), (300, (2,))]


def test_a_group_is_signed_once_and_again_after_its_urls_ran_out(sandbox: RunningSandbox, tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{'x' * n}.png") for n in range(1, 6)]
    source, (row,) = opened(sandbox, [files])
    sandbox.fault("expire_url", match=BLOB, after=3)
    mark = len(sandbox.log())
    clips = source.download(row, tmp_path)
    assert [clip.path.read_bytes() for clip in clips] == [path.read_bytes() for path in files]
    assert (requests_made(sandbox, mark, "datasetdata"), requests_made(sandbox, mark, "get-bulk")) == (2, 0)


@pytest.mark.parametrize("status", [400, 409])
def test_a_file_that_the_platform_refuses_to_sign_costs_its_row_only(
    sandbox: RunningSandbox, tmp_path: Path, status: int
) -> None:
    source, (bad, good) = opened(sandbox, [picture(tmp_path / name) for name in ("a.png", "b.png")])
    sandbox.fault("status", status=status, match=SIGN_ITEM)
    with pytest.raises(PermanentMediaError, match=r"the platform refuses .* signing the media") as caught:
        source.download(bad, tmp_path)
    assert caught.value.reason == Reason.DOWNLOAD
    assert len(source.download(good, tmp_path)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_sign_nothing_ends_the_run(sandbox: RunningSandbox, tmp_path: Path, status: int) -> None:
    source, rows = opened(sandbox, [picture(tmp_path / f"{n}.png") for n in range(6)])
    sandbox.fault("status", status=status, times=99, match=SIGN_ITEM)
    with pytest.raises(PermanentAccessError, match="does not let this key in"):
        source.download(rows[0], tmp_path)


def test_a_single_file_that_the_key_may_not_sign_costs_its_row_only(sandbox: RunningSandbox, tmp_path: Path) -> None:
    source, rows = opened(sandbox, [picture(tmp_path / f"{n}.png") for n in range(6)])
    sandbox.fault("status", status=403, match=SIGN_ITEM)
    with pytest.raises(TransientMediaError, match="though it signs other files"):
        source.download(rows[0], tmp_path)
    assert len(source.download(rows[0], tmp_path)) == 1


@pytest.mark.parametrize("trouble", [{"status": 410}, {"status": 500}, {"kind": "truncate"}], ids=str)
def test_a_lasting_trouble_with_one_file_is_its_rows_own(
    sandbox: RunningSandbox, tmp_path: Path, trouble: dict[str, Any]
) -> None:
    source, rows = opened(sandbox, [picture(tmp_path / f"{n}.png") for n in range(3)])
    sandbox.fault(**{"kind": "status", "times": 5, "match": BLOB, **trouble})
    with pytest.raises(TransientMediaError, match="the download"):
        source.download(rows[0], tmp_path)


@pytest.mark.parametrize("call", [BLOB, SIGN_ITEM], ids=["store", "signing"])
def test_where_no_file_is_to_be_had_no_row_is_to_blame(
    sandbox: RunningSandbox, tmp_path: Path, call: dict[str, str]
) -> None:
    source, rows = opened(sandbox, [picture(tmp_path / f"{n}.png") for n in range(3)])
    sandbox.fault("status", times=99, match=call)
    with pytest.raises(TransientServiceError):
        source.download(rows[0], tmp_path)


def test_the_only_file_of_a_project_is_to_blame_itself_where_the_platform_signs_it(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    source, (row,) = opened(sandbox, [picture(tmp_path / "a.png")])
    sandbox.fault("status", status=410, times=5, match=BLOB)
    with pytest.raises(TransientMediaError, match="410"):
        source.download(row, tmp_path)
    sandbox.fault("status", status=503, times=15, match=SIGN_ITEM)
    with pytest.raises(TransientServiceError, match="signing the media"):
        source.download(row, tmp_path)


def test_a_file_whose_announced_size_is_over_the_limit_is_not_downloaded(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    path = picture(tmp_path / "a.png")
    source, (row,) = opened(sandbox, [path], max_media_bytes=path.stat().st_size - 1)
    sandbox.fault("truncate", match=BLOB, times=9)
    with pytest.raises(PermanentMediaError, match="AUTOLABEL_MAX_MEDIA_BYTES") as caught:
        source.download(row, tmp_path)
    assert (caught.value.reason, sandbox.faults_met()) == (Reason.TOO_LARGE, [1])


def test_a_download_that_ends_early_is_made_again(sandbox: RunningSandbox, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    source, (row,) = opened(sandbox, [path])
    sandbox.fault("truncate", match=BLOB)
    (clip,) = source.download(row, tmp_path / "sandbox")
    assert (clip.path.read_bytes(), sandbox.faults_met()) == (path.read_bytes(), [1])


def test_a_download_that_crawls_is_given_up(sandbox: RunningSandbox, tmp_path: Path) -> None:
    ticks = count(step=100)
    source, (row,) = opened(sandbox, [picture(tmp_path / "a.png", 20, 20)], clock=lambda: next(ticks))
    with pytest.raises(TransientMediaError, match="too slow"):
        source.download(row, tmp_path)


def test_a_large_download_may_take_longer(sandbox: RunningSandbox, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()

    def at_25_kb_per_s() -> float:
        return sum(file.stat().st_size for file in spool.iterdir()) / 25_000

    source, (row,) = opened(sandbox, [picture(tmp_path / "a.png", 1200, 1000)], clock=at_25_kb_per_s)
    source.download(row, spool)
    assert at_25_kb_per_s() > 140


def test_a_download_under_way_ends_when_it_is_abandoned(sandbox: RunningSandbox, tmp_path: Path) -> None:
    def abandon() -> float:
        source.abandon()
        return 0.0

    spool = tmp_path / "spool"
    spool.mkdir()
    source, (row,) = opened(sandbox, [picture(tmp_path / "a.png")], clock=abandon)
    with pytest.raises(Interrupted):
        source.download(row, spool)
    assert list(spool.iterdir()) == []
