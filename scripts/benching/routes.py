"""How long new pictures wait for their labels, by each thing that can call for a run; prints a table.

`PYTHONPATH=.:scripts python -m benching.routes`. Each route has a sandbox and a ledger of its own and the bundled
models. Pictures are uploaded through the SDK one at a time, each at another moment of the trigger's cycle. The
sandbox tells the times: it logs every change, and every webhook that it sends.
"""

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import requests
from encord import EncordUserClient

from autolabel.sandbox import running
from autolabel.sandbox.labels import MAIN, label_hash_of
from autolabel.sandbox.projects import CLASSES
from autolabel.sandbox.scenes import draw
from autolabel.sandbox.store import KINDS, DataUnit, LabelRow, Project, Tables, Task, apply, derived_uuid
from benching.triggers import LIMIT_S, OnUpload, Site, bucket_told, cron, stage_told

ROUTES = {
    "Agent stage, notification": ("demo-agent", stage_told),
    "cron": ("demo", cron),
    "bucket event": ("demo", bucket_told),
}
SIZE_PX = (640, 480)
SEED = 4000
"""Of the one picture that is uploaded again and again: the models find something on it."""
POLL_S = 0.1


@dataclass(frozen=True)
class Times:
    """Of one picture: from its upload until a run was called for, and from there until its labels stood."""

    waiting_s: float
    working_s: float

    @property
    def total_s(self) -> float:
        return self.waiting_s + self.working_s


def measure(route: str, pictures: int, every_s: float) -> list[Times]:
    """One picture after another; the first one finds no models loaded."""
    scenario, trigger = ROUTES[route]
    chance, found = random.Random(route), list[Times]()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "sandbox", scenario, frames=1) as served:
        (project,) = served["projects"].values()
        site = Site(served["domain"], served["ssh_key_file"], project, Path(folder) / "home")
        site.home.mkdir()
        with trigger(site, every_s) as on_upload:
            for number in range(pictures):
                time.sleep(chance.uniform(0, every_s))
                found.append(upload_one(site, Path(folder) / f"{number}.png", on_upload))
    return found


def upload_one(site: Site, path: Path, on_upload: OnUpload) -> Times:
    """Upload a picture into the project's dataset and wait for its labels; SystemExit where none come."""
    cv2.imwrite(str(path), draw(SEED, *SIZE_PX, [*CLASSES]).rgb[..., ::-1])
    client = EncordUserClient.create_with_ssh_private_key(ssh_private_key_path=site.key_file, domain=site.domain)
    (held,) = client.get_project(site.project).list_datasets()
    client.get_dataset(held.dataset_hash).upload_image(path, title=path.name)
    on_upload(str(held.dataset_hash))
    return _waited(site, path.name)


def _waited(site: Site, title: str) -> Times:
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        entries = requests.get(f"{site.domain}/admin/log", timeout=30).json()
        if found := moments(site.project, entries, title):
            uploaded_s, labelled_s = found
            told_s = [_at_s(entry) for entry in entries if entry.get("outcome") == "delivered"]
            called_s = [moment for moment in [*site.called_s, *told_s] if uploaded_s < moment < labelled_s]
            begun_s = min(called_s, default=uploaded_s)  # a run that was called for just before may find it
            return Times(begun_s - uploaded_s, labelled_s - begun_s)
        time.sleep(POLL_S)
    raise SystemExit(f"{title} was not labelled in {LIMIT_S:.0f} s: {site.said()}")


def moments(project: str, entries: list[dict[str, Any]], title: str) -> tuple[float, float] | None:
    """When it was uploaded, and when its labels stood on main and its task before annotators; None until then."""
    tables: Tables = {kind: {} for kind in KINDS}
    uploaded_s, data_hash = 0.0, ""
    for event in (entry for entry in entries if entry["kind"] == "event"):
        apply(tables, event)
        if not data_hash:
            uploaded_s = _at_s(event)
            data_hash = next((unit.key for unit in tables[DataUnit].values() if unit.title == title), "")
        elif _stands(tables, project, data_hash):
            return uploaded_s, _at_s(event)
    return None


def _stands(tables: Tables, project: str, data_hash: str) -> bool:
    row = tables[LabelRow].get(label_hash_of(project, data_hash, MAIN))
    task = tables[Task][derived_uuid(project, data_hash, "task")]
    is_before_people = tables[Project][project].stage(task.stage_uuid)["stageType"] == "ANNOTATION"
    return is_before_people and row is not None and any(unit["objects"] for unit in row.labels.values())


def _at_s(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["at"]).timestamp()


def table(measured: dict[str, list[Times]]) -> str:
    """Seconds; of all but the first picture the median, and the longest."""
    lines = ["| | first | then | waiting | working | at most |", "| --- " * 6 + "|"]
    for route, (first, *then) in measured.items():
        totals = [times.total_s for times in then]
        waiting_s, working_s = (median(getattr(times, part) for times in then) for part in ("waiting_s", "working_s"))
        cells = [first.total_s, median(totals), waiting_s, working_s, max(totals)]
        lines.append(f"| {route} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--routes", nargs="+", choices=ROUTES, default=list(ROUTES))
    arguments.add_argument("--pictures", type=int, default=9, help="uploaded by each route; at least 2")
    arguments.add_argument("--every-s", type=float, default=10.0, help="cycle of cron, and of looks at the queue")
    wanted = arguments.parse_args()
    print(table({route: measure(route, wanted.pictures, wanted.every_s) for route in wanted.routes}))


if __name__ == "__main__":
    main()
