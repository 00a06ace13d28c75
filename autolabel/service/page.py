"""What an operator opens in a browser: one page of where everything stands, and the runs' reports. Reads only.

Both show what people's projects hold, so they answer on this machine alone; /metrics holds numbers and answers all.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from prometheus_client.exposition import choose_encoder

from autolabel.core.limits import LIMIT_TEXT, Limit
from autolabel.core.rows import REASON_TEXT, Reason
from autolabel.errors import AutolabelError
from autolabel.overview import HOUR_S, OUTCOMES, Overview
from autolabel.service.metrics import Snapshot, registry

DAY_S = 24 * HOUR_S
HOURS, DAYS = 48, 30
RUNS, MESSAGES = 20, 20
OUTCOME_TEXT = {
    "labelled": "labelled",
    "empty": "nothing found",
    "left_alone": "left to people",
    "set_aside": "set aside",
    "under_way": "under way",
}
SETTLED = OUTCOMES[:-1]
REPORT = re.compile(r"[A-Za-z0-9-]{1,80}\.html")
LOCAL_NAME = re.compile(r"(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
PASSED_ON = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def operator_router(
    overview: Overview, home: Path, state: Callable[[], Mapping[str, Any]], calls: Snapshot, port: int
) -> APIRouter:
    """`/`, `/reports/RUN.html` and `/metrics`. 503 where the ledger cannot be read.

    - `home`: where `reports` lies.
    - `port`: of this machine, at which the page and the reports answer; webhooks and their proxies have another one.
    - `state`: of what serves webhooks: `running`, a project's hash or None, and `since_s`, since 1970.
    """
    router, own = APIRouter(include_in_schema=False), registry(overview, calls)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"ago": _ago, "moment": _moment, "number": _number, "why": _why}
    template = environment.from_string(files("autolabel").joinpath("page.html.jinja").read_text(encoding="utf-8"))

    def here(request: Request) -> None:
        only_here(request, port)

    @router.get("/", dependencies=[Depends(here)])
    def page() -> HTMLResponse:
        try:
            told = _told(overview, home / "reports", time.time()) | {"state": state()}
        except AutolabelError as error:
            raise HTTPException(503, str(error)) from None
        return HTMLResponse(template.render(told, calls=sorted(calls().items())), headers=SAFE)

    @router.get("/reports/{name}", dependencies=[Depends(here)])
    def report(name: str) -> FileResponse:
        if REPORT.fullmatch(name) is None or not _is_file(path := home / "reports" / name):
            raise HTTPException(404, "there is no such report")
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=SAFE)

    @router.get("/metrics")
    def metrics(accept: Annotated[str, Header()] = "") -> Response:
        encode, media_type = choose_encoder(accept)
        try:
            return Response(encode(own), media_type=media_type)
        except AutolabelError as error:
            raise HTTPException(503, str(error)) from None

    return router


def only_here(request: Request, port: int) -> None:
    """403 for all but a browser on this machine that asks at a port of its own.

    A call that a proxy passes on may look like one from here in every other way. A page elsewhere whose name is
    suddenly ours is told by the name; whatever says that it was passed on, or speaks HTTP/1.0, is no browser here.
    """
    hosts, headers = request.headers.getlist("host"), request.headers
    is_here = request.client is not None and _is_loopback(request.client.host)
    is_asked_here = (request.scope.get("server") or ("", None))[1] == port
    is_named_here = len(hosts) == 1 and LOCAL_NAME.fullmatch(hosts[0]) is not None
    is_passed_on = any(name in headers for name in PASSED_ON) or request.scope["http_version"] == "1.0"
    if is_here and is_asked_here and is_named_here and not is_passed_on:
        return
    raise HTTPException(
        403,
        "this shows people's pictures and answers on its own machine alone; from yours: "
        f"ssh -N -L {port}:127.0.0.1:{port} THAT-MACHINE, then open http://127.0.0.1:{port}/",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _told(overview: Overview, reports: Path, now_s: float) -> dict[str, Any]:
    """All that the page says of the ledger."""
    projects, runs = overview.projects(), overview.runs(RUNS)
    titles = {project["project"]: project["title"] for project in projects}
    by_hour = overview.by_hour(now_s - DAYS * DAY_S)
    ids = {run["id"] for run in [*runs, *(project["run"] for project in projects if project["run"])]}
    return {
        "now_s": now_s,
        "version": version("autolabel"),
        "projects": projects,
        "alarms": _alarms(projects),
        "titles": titles,
        "owed": overview.owed(),
        "runs": runs,
        "under_way": [run for run in overview.unfinished() if run["is_alive"]],
        "chart": _chart(by_hour, now_s),
        "day": _day(overview.finished(now_s - DAY_S)),
        "messages": overview.messages(MESSAGES),
        "reports": {run_id for run_id in ids if _is_file(reports / f"{run_id}.html")},
        "outcome_text": OUTCOME_TEXT,
    }


def _alarms(projects: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Each trouble and the projects that have it: a key that was revoked is one trouble of all of them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for project in projects:
        if project["trouble"]:
            found.setdefault(project["trouble"], []).append(project)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def _chart(by_hour: Counter[tuple[int, str]], now_s: float) -> dict[str, Any]:
    """Bars by the hour, or by the day (UTC) where anything is older than HOURS.

    - `starts_s`: when each bar begins.
    - `lines`: (outcome, in words, a count a bar).
    """
    last = int(now_s // HOUR_S)
    is_long = any(hour <= last - HOURS for hour, _ in by_hour)
    hours, bars = (24, DAYS) if is_long else (1, HOURS)
    first = last // hours - bars + 1
    counts = {outcome: [0] * bars for outcome in SETTLED}
    for (hour, outcome), rows in by_hour.items():
        if hour // hours >= first:
            counts[outcome][min(hour // hours - first, bars - 1)] += rows
    return {
        "unit": "day" if is_long else "hour",
        "bars": bars,
        "starts_s": [(first + bar) * hours * HOUR_S for bar in range(bars)],
        "lines": [(outcome, OUTCOME_TEXT[outcome], counts[outcome]) for outcome in SETTLED],
    }


def _day(finished: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What runs of the last 24 hours did, and how quickly; None where no run tells."""
    told = [run for run in finished if run["seconds"]]
    seconds = sum(run["seconds"] for run in told)
    rows = sum(run["labelled"] + run["empty"] for run in told)
    return {
        "runs": len(finished),
        "rows": rows,
        "objects": sum(run["objects"] for run in told),
        "frames_per_second": sum(run["frames"] or 0 for run in told) / seconds if seconds else None,
        "rows_per_hour": rows * HOUR_S / seconds if seconds else None,
    }


def _ago(at_s: float, now_s: float) -> str:
    seconds = max(0.0, now_s - at_s)
    for unit_s, name in ((DAY_S, "d"), (HOUR_S, "h"), (60, "min")):
        if seconds >= 2 * unit_s or (unit_s == 60 and seconds >= 60):
            return f"{seconds / unit_s:.0f} {name} ago"
    return "just now"


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))


def _number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - the sign for nothing
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.1f}"


def _why(reason: str) -> str:
    """In words, why a row was left or set aside, or what held rows back; what this release does not know as it is."""
    if reason in list(Limit):
        return LIMIT_TEXT[Limit(reason)]
    return REASON_TEXT[Reason(reason)] if reason in list(Reason) else reason.replace("_", " ")
