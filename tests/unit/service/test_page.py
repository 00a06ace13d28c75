"""The operator's page: true, safe to look at whatever titles hold, and shown on its own machine alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from markupsafe import escape
from prometheus_client.parser import text_string_to_metric_families

from autolabel.core.limits import LIMIT_TEXT, Limit
from autolabel.service.page import only_here, operator_router
from autolabel.states import State
from past import CALLS, Past

EVIL = '<script>alert("x")</script>'
PORT = 8766
IDLE = {"running": None, "since_s": None, "child_pid": None, "queued": 0}
ASIDE = {"d": (State.SET_ASIDE, "decode")}


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def client(
    past: Past, stack: ExitStack, peer: str = "127.0.0.1", *, alive: bool = False, port: int = PORT, **state: Any
) -> TestClient:
    overview = stack.enter_context(closing(past.overview(alive=alive)))
    app = FastAPI()
    app.include_router(operator_router(overview, past.folder, lambda: IDLE | state, lambda: CALLS, PORT))
    return TestClient(app, base_url=f"http://127.0.0.1:{port}", client=(peer, 50000))


def words(html: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_a_ledger_without_any_project_says_how_to_begin(tmp_path: Path, opened: ExitStack) -> None:
    shown = words(client(Past(tmp_path), opened).get("/").text)
    assert "No project has been looked at yet" in shown
    assert "autolabel push --project HASH" in shown


def test_one_project_shows_its_rows_looks_speed_and_what_went_wrong(tmp_path: Path, opened: ExitStack) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="ab", empty="c", ends=ASIDE, summary={"held_back": {"max_minutes": 7}})
    past.look(project_title="Instruments", run_id="run-1")
    past.wake()
    shown = words(client(past, opened).get("/").text)
    assert "All is well 1 project as of" in shown
    assert re.search(r"owed to webhooks 1 run in the queue", shown)
    assert re.search(r"Instruments p .* a run, cron 2 1 0 1 0 1 run-1 finished, 2.5 frames/s", shown)
    assert f"to main; 7 held back, {LIMIT_TEXT[Limit.MAX_MINUTES]}" in shown
    assert "d.png: is damaged Instruments" in shown
    assert "encord accepted 40" in shown


def test_trouble_comes_first_each_once_and_is_counted_in_the_tab(tmp_path: Path, opened: ExitStack) -> None:
    past = Past(tmp_path)
    past.look("fine", project_title="Apples")
    for number in range(40):
        error = "no right to this project" if number < 30 else f"stage {number} is gone"
        past.look(f"p{number}", project_title=f"Zebra {number:02}", error=error)
    html = client(past, opened).get("/").text
    assert "<title>(40) autolabel</title>" in html
    assert "40 of 41 projects need a look" in html
    assert html.count('class="alarm"') == 8
    assert "Zebra 00, Zebra 01, Zebra 02 and 27 more no right to this project looked at" in words(html)
    assert "and 3 other troubles" in html
    assert html.rindex("Zebra 39") < html.index("Apples")


@pytest.mark.parametrize("text", [EVIL, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "Zürich 東京 " * 40, ""])
def test_what_comes_from_outside_is_only_text(text: str, tmp_path: Path, opened: ExitStack) -> None:
    past = Past(tmp_path)
    past.run("run-1", ends={EVIL: (State.SET_ASIDE, "decode")}, summary={"stopped_by": text})
    past.look(project_title=text, called_by="cli", error=text)
    html = client(past, opened, running="p", since_s=past.now_s).get("/").text
    assert "<script" not in html
    assert "<img" not in html
    assert str(escape(text)) in html


def test_a_page_loads_nothing_and_runs_nothing(tmp_path: Path, opened: ExitStack) -> None:
    answer = client(Past(tmp_path), opened).get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert answer.headers["cache-control"] == "no-store"
    assert set(re.findall(r'(?:href|src)="([^"]*)"', answer.text)) == {"data:,", "/metrics"}


@pytest.mark.parametrize(
    ("alive", "state", "shown"),
    [
        (True, {"running": "p", "since_s": 1.0}, "now Title of p a run, begun"),
        (False, {"running": "p", "since_s": 1.0}, "now Title of p a webhook's run, begun"),
        (False, {"child_pid": 5}, "now no run models are loaded"),
    ],
)
def test_what_is_under_way_is_shown_whoever_called_for_it(
    tmp_path: Path, opened: ExitStack, *, alive: bool, state: dict[str, Any], shown: str
) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="a")
    assert shown in words(client(past, opened, alive=alive, **state).get("/").text)


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.0.7", {}),
        ("testclient", {}),
        ("127.0.0.1", {"host": "attacker.example"}),
        ("127.0.0.1", {"host": "127.0.0.1.attacker.example:8765"}),
        ("127.0.0.1", {"host": "localhost:8765@attacker.example"}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {"via": "1.1 proxy"}),
    ],
)
@pytest.mark.parametrize("path", ["/", "/reports/run-1.html"])
def test_pictures_are_shown_on_their_own_machine_alone(
    tmp_path: Path, opened: ExitStack, peer: str, headers: dict[str, str], path: str
) -> None:
    """Not through a proxy, and not to a page elsewhere whose name is bound to 127.0.0.1 (DNS rebinding)."""
    refused = client(Past(tmp_path), opened, peer).get(path, headers=headers)
    assert refused.status_code == 403
    assert "ssh -N -L 8766:127.0.0.1:8766" in refused.json()["detail"]
    assert client(Past(tmp_path), opened, peer).get("/metrics", headers=headers).status_code == 200


def test_at_the_port_of_webhooks_it_is_shown_to_nobody(tmp_path: Path, opened: ExitStack) -> None:
    """A proxy passes calls of anybody on to that port, and they may look like a browser's here."""
    refused = client(Past(tmp_path), opened, port=PORT - 1).get("/")
    assert (refused.status_code, "http://127.0.0.1:8766/" in refused.json()["detail"]) == (403, True)


@pytest.mark.parametrize(("version", "hosts"), [("1.0", 1), ("1.1", 2), ("1.1", 0)])
def test_a_proxy_that_names_nobody_speaks_an_older_protocol_and_is_refused(version: str, hosts: int) -> None:
    """As nginx does that was told no more than `proxy_pass`: a call of anybody looks like one of this machine."""
    here = {"client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8766)}
    headers = [(b"host", b"127.0.0.1:8766")] * hosts
    with pytest.raises(HTTPException, match="answers on its own machine alone"):
        only_here(Request({"type": "http", "http_version": version, "headers": headers} | here), PORT)


@pytest.mark.parametrize(
    ("peer", "host"),
    [("127.0.0.1", "localhost:9000"), ("127.0.0.1", "LOCALHOST"), ("::1", "[::1]:8765"), ("127.8.9.1", "127.0.0.1")],
)
def test_a_browser_here_and_one_behind_a_tunnel_see_it(
    tmp_path: Path, opened: ExitStack, peer: str, host: str
) -> None:
    assert client(Past(tmp_path), opened, peer).get("/", headers={"host": host}).status_code == 200


def test_a_report_is_linked_and_shown_where_it_is_there(tmp_path: Path, opened: ExitStack) -> None:
    past = Past(tmp_path)
    past.run("20261122-120000-abcd", labelled="a", summary={})
    past.run("20261122-130000-abcd", labelled="b", summary={})
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "20261122-120000-abcd.html").write_text("<p>Zürich", encoding="utf-8")
    asked = client(past, opened)
    links = re.findall(r'href="(/reports/[^"]*)"', asked.get("/").text)
    answer = asked.get(links[0])
    assert set(links) == {"/reports/20261122-120000-abcd.html"}
    assert (answer.text, answer.headers["content-type"]) == ("<p>Zürich", "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name",
    ["gone.html", "link.html", "folder.html", "..%2Fledger.sqlite", "..%2f..%2fetc%2fpasswd", "%2e%2e/ledger.sqlite",
     "run-1.part", "run-1.html%00", "run-1.html%0a", ".html", "rün.html", "a" * 90 + ".html", "..\\x.html"],
)  # fmt: skip
def test_nothing_but_a_report_is_served(tmp_path: Path, opened: ExitStack, name: str) -> None:
    past, reports = Past(tmp_path), tmp_path / "reports"
    past.run("run-1", labelled="a")
    (reports / "folder.html").mkdir(parents=True)
    (reports / "run-1.part").write_text("half")
    (reports / "link.html").symlink_to(tmp_path / "ledger.sqlite")
    assert client(past, opened).get(f"/reports/{name}").status_code == 404


def test_metrics_are_what_prometheus_reads(tmp_path: Path, opened: ExitStack) -> None:
    answer = client(Past(tmp_path), opened, "10.0.0.7").get("/metrics")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "autolabel_queue_depth" in names


def test_a_ledger_that_cannot_be_read_is_told_and_no_crash(tmp_path: Path, opened: ExitStack) -> None:
    past = Past(tmp_path)
    asked = client(past, opened)
    for path in tmp_path.glob("ledger.sqlite*"):
        path.write_bytes(b"rubbish" * 1000)
    for path in ("/", "/metrics"):
        answer = asked.get(path)
        assert (answer.status_code, "cannot be used" in answer.json()["detail"]) == (503, True)
