"""`preview` as a user runs it: real models, a page, and no effect on any platform."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from autolabel.sandbox.media import encode_video
from autolabel.sandbox.scenes import draw
from sandbox.commands import Command


def report_of(stdout: str) -> str:
    return Path(stdout.split("report: ")[1].strip()).read_text()


def test_a_project_is_previewed_without_any_effect_on_it(push: Command) -> None:
    mark = len(push.sandbox.log())
    done = push("preview", "--project", push.project, "--limit", "5")
    assert done.returncode == 0, done.stderr
    assert "12  label rows in all" in done.stdout
    assert "7  beyond --limit, not looked at" in done.stdout
    assert push.sandbox.writes(mark) == []
    html = report_of(done.stdout)
    assert html.count("data:image/jpeg") == 5
    assert f"autolabel push --project {push.project} --dry-run" in html
    assert not (push.home / "ledger.sqlite").exists()


def scene(path: Path) -> Path:
    Image.fromarray(draw(395, 640, 480, ["white gauze"]).rgb).save(path)
    return path


def test_files_are_previewed_without_key_or_platform(push: Command, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    scene(pictures / "tray.png")
    (pictures / "broken.jpg").write_bytes(b"rubbish")
    (pictures / "notes.txt").write_text("none")
    nowhere = {"ENCORD_SSH_KEY_FILE": "", "ENCORD_DOMAIN": "http://127.0.0.1:9"}
    done = push("preview", str(pictures), "--prompts", "white gauze, blue syringe", **nowhere)
    assert done.returncode == 3
    assert "1  neither pictures nor videos by their names" in done.stdout
    assert "3  files in all" in done.stdout
    assert "1 white gauze" in done.stdout
    assert "broken.jpg: its file cannot be decoded" in done.stderr
    assert "white gauze 0." in report_of(done.stdout)


def test_a_video_is_previewed_as_a_strip_of_the_frames_that_a_push_looks_at(push: Command, tmp_path: Path) -> None:
    picture = draw(395, 640, 480, ["white gauze"]).rgb
    encode_video(tmp_path / "film.mp4", (640, 480), ((k / 10, picture) for k in range(35)))
    done = push("preview", str(tmp_path), "--prompts", "white gauze")
    assert done.returncode == 0, done.stderr
    assert "1 white gauze" in done.stdout
    html = report_of(done.stdout)
    assert html.count("data:image/jpeg") == 4
    assert "frame 30 · 3.0 s" in html


def test_a_page_that_cannot_be_written_costs_the_page_and_not_the_counts(push: Command, tmp_path: Path) -> None:
    push.home.mkdir()
    (push.home / "reports").touch()
    done = push("preview", str(scene(tmp_path / "tray.png")), "--prompts", "white gauze")
    assert done.returncode == 2
    assert "1 white gauze" in done.stdout
    assert done.stderr.startswith("error: the report ")
    assert list((push.home / "spool").iterdir()) == []


def test_without_images_a_report_holds_none(push: Command, tmp_path: Path) -> None:
    done = push(
        "preview", str(scene(tmp_path / "tray.png")), "--prompts", "white gauze", AUTOLABEL_REPORT_IMAGES="off"
    )
    html = report_of(done.stdout)
    assert "data:image" not in html
    assert "tray.png" in html


def test_the_reference_finds_what_the_fast_paths_find(push: Command, tmp_path: Path) -> None:
    done = push("preview", str(scene(tmp_path / "tray.png")), "--prompts", "white gauze", "--reference")
    assert done.returncode == 0, done.stderr
    assert "1 white gauze" in done.stdout
