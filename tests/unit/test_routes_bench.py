"""How the times of a picture are read off the sandbox's log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from autolabel.sandbox.people import act_as_person
from autolabel.sandbox.projects import create_scenario
from autolabel.sandbox.store import DataUnit, Project, Store
from benching.routes import Times, moments, table


class InMemory(list[dict[str, Any]]):
    """A sandbox's log without a file."""

    def since(self, first: int) -> list[dict[str, Any]]:
        return self[first:]


def a_second_apart() -> Iterator[datetime]:
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number) for number in count())


def test_labels_count_from_when_they_stand_and_the_task_is_before_annotators(tmp_path: Path) -> None:
    clock = a_second_apart()
    store = Store(InMemory(), now=lambda: next(clock))
    create_scenario(store, tmp_path, "demo-agent", 1, "me@example.com")
    (project,), (unit,) = store.table(Project).values(), store.table(DataUnit).values()
    where = {"project": project.key, "data_hash": unit.key}

    def seen() -> tuple[float, float] | None:
        return moments(project.key, store.log, unit.title)

    act_as_person(store, {**where, "action": "draw", "class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]})
    assert seen() is None  # still at the Agent stage
    task = store.task(project.key, unit.key)
    store.commit("task_moved", "me@example.com", replace(task, stage_uuid=project.stages[1]["uuid"]))
    times = seen()
    assert times is not None
    assert times[0] < times[1] == datetime.fromisoformat(store.log[-1]["at"]).timestamp()


def test_the_first_picture_is_apart_and_of_the_others_the_median_is_told() -> None:
    text = table({"cron": [Times(9, 9), Times(1, 2), Times(3, 2), Times(8, 2)]})
    assert text.splitlines()[-1] == "| cron | 18.0 | 5.0 | 3.0 | 2.0 | 10.0 |"
