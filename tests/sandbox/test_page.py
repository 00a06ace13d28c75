"""The operator's page in a browser, after real pushes: it stands, complains of nothing and leads to the reports."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Response
from PIL import Image

from autolabel.overview import Overview
from autolabel.service.page import SAFE, operator_router
from chromium import DARK, open_in_browser
from past import CALLS, Past
from sandbox.commands import Command

SIZES = {"desktop": ((1280, 1400), ()), "phone": ((390, 1400), ()), "dark": ((1280, 1400), (DARK,))}
IDLE = {"running": None, "since_s": None, "child_pid": None, "queued": 0}


@contextmanager
def serving(make_app: Callable[[int], FastAPI]) -> Iterator[str]:
    """The address of an application that is made for a port and served by a thread."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(make_app(port), log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def page_of(overview: Overview, home: Path) -> Iterator[str]:
    def make_app(port: int) -> FastAPI:
        app = FastAPI()
        app.include_router(operator_router(overview, home, lambda: IDLE, lambda: CALLS, port))
        return app

    with closing(overview), serving(make_app) as address:
        yield address


def test_after_a_push_the_page_shows_it_and_leads_to_its_report(push: Command, tmp_path: Path) -> None:
    run = push.push("--limit", "4")
    with page_of(Past(push.home).overview(), push.home) as address:
        page = open_in_browser(f"{address}/", tmp_path / "page.png", (1280, 1400))
        link = re.search(r'href="(/reports/[^"]*)"', page.dom)
        assert link is not None
        report = open_in_browser(address + link.group(1), tmp_path / "report.png", (1280, 1400))
    assert (page.console, report.console) == ((), ())
    assert "All is well" in page.dom
    assert "Demo: surgical tools" in page.dom
    assert link.group(1) == f"/reports/{run['run']}.html"
    assert "Push report" in report.dom
    assert report.dom.count("data:image/jpeg") > 0


@pytest.mark.parametrize("size", SIZES)
def test_it_stands_at_any_width_and_in_the_dark_with_evil_titles_and_troubles(tmp_path: Path, size: str) -> None:
    past, (size_px, more) = Past(tmp_path, time.time() - 9000), SIZES[size]
    past.run("run-1", labelled="abc", empty="d", summary={"held_back": {"max_minutes": 3}})
    for number in range(40):
        past.look(
            f"p{number}", project_title=f"{number} <script>alert(1)</script> " * 5, error=f"{number} away " * 20
        )
    with page_of(past.overview(), tmp_path) as address:
        page = open_in_browser(f"{address}/", tmp_path / "page.png", size_px, *more)
    with Image.open(tmp_path / "page.png") as picture:
        shown = picture.convert("L")
    assert (page.console, shown.size) == ((), size_px)
    assert "40 of 41 projects need a look" in page.dom
    assert (shown.getpixel((2, 2)) < 60) == (size == "dark")  # type: ignore[operator]


def test_the_browser_would_complain_of_a_script_or_of_anything_from_elsewhere(tmp_path: Path) -> None:
    """Where it does not, a page that is quiet would prove nothing."""
    app = FastAPI()
    bad = "<img src='http://elsewhere.example/a.png'><script>alert(1)</script>"
    app.get("/")(lambda: Response(bad, media_type="text/html", headers=SAFE))
    with serving(lambda port: app) as address:
        page = open_in_browser(f"{address}/", tmp_path / "page.png", (800, 600))
    assert [word for line in page.console for word in ("image", "script") if word in line] == ["image", "script"]
