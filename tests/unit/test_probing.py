"""What a run would cost: frames timed before anything is written, and no figure rather than a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolabel.core.rows import LabelRow
from autolabel.plan import Options, make_plan
from autolabel.probing import seconds_per_frame
from ledgers import open_ledger
from platform_fakes import RECIPE, FakePlatform, ScriptedInference, make_row

STILLS = [make_row(f"row-{i}") for i in range(3)]
FILM = make_row("film", data_type="video", frames=2500, frames_per_second=25.0)
EMPTY_FILM = make_row("nothing", data_type="video", frames=0, frames_per_second=25.0)


def probed(folder: Path, rows: list[LabelRow], inference: ScriptedInference) -> float | None:
    platform = FakePlatform(rows)
    plan = make_plan(platform, open_ledger(folder), platform.project(), RECIPE, Options())
    spool = folder / "spool"
    spool.mkdir()
    seconds = seconds_per_frame(plan, RECIPE, platform, inference, spool)
    assert list(spool.iterdir()) == platform.writes == []
    return seconds


def test_a_probe_times_the_first_rows(tmp_path: Path) -> None:
    seconds = probed(tmp_path, STILLS, ScriptedInference())
    assert seconds is not None
    assert seconds > 0


@pytest.mark.parametrize("trouble", ["poison", "odd"])
def test_a_probe_that_meets_a_bad_row_gives_no_time_no_error_and_leaves_no_file(tmp_path: Path, trouble: str) -> None:
    assert probed(tmp_path, STILLS, ScriptedInference(**{trouble: frozenset({"row-0"})})) is None


@pytest.mark.parametrize("row", [STILLS[0], FILM], ids=["picture", "video"])
def test_a_picture_or_video_that_cannot_be_decoded_gives_no_time(tmp_path: Path, row: LabelRow) -> None:
    inference = ScriptedInference()
    inference.fails_at = 0
    assert probed(tmp_path, [row], inference) is None


def test_a_probe_takes_a_few_frames_of_a_video_as_far_apart_as_a_run(tmp_path: Path) -> None:
    inference = ScriptedInference()
    assert probed(tmp_path, [FILM], inference) is not None
    assert inference.indices == [0, 25, 50, 75] * 2


def test_a_video_or_group_without_frames_is_not_probed(tmp_path: Path) -> None:
    group, inference = make_row("group", data_type="img_group", frames=0), ScriptedInference()
    assert probed(tmp_path, [EMPTY_FILM, group, FILM], inference) is not None
    assert inference.asked == [["film"]] * 2


def test_a_project_of_nothing_but_videos_without_frames_takes_no_time(tmp_path: Path) -> None:
    assert probed(tmp_path, [EMPTY_FILM], ScriptedInference()) == 0.0
