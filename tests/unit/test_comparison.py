"""The comparison's own judgement: a harness never seen red proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from benching.compare import Outcome
from benching.disturbance import plan_faults
from benching.finds import find

BOX = [0.1, 0.1, 0.2, 0.2]


@dataclass
class Left:
    """One frame as a tool left it, in place of a `World`."""

    stored: list[dict[str, Any]]
    stuck: set[str] = field(default_factory=set)
    keys: dict[str, bytes] = field(default_factory=lambda: {"a": b"picture"})

    def main(self) -> dict[str, Any]:
        return {"a": {"labels": {"a": {"objects": self.stored}}}}

    def waiting(self) -> set[str]:
        return self.stuck

    def admin(self, method: str, path: str) -> list[Any]:
        return []


def stored(name: str, box_xywh: list[float], *, manual: bool = False) -> dict[str, Any]:
    return {
        "objectHash": name,
        "manualAnnotation": manual,
        "boundingBox": dict(zip("xywh", box_xywh, strict=True)),
    }


def machine() -> list[dict[str, Any]]:
    boxes = [item.box_xyxy_norm for item in find(b"picture")]
    return [stored(str(i), [x0, y0, x1 - x0, y1 - y0]) for i, (x0, y0, x1, y1) in enumerate(boxes)]


def judged(world: Left, drawn: dict[str, Any] | None = None) -> dict[str, int]:
    outcome = Outcome("a tool")
    outcome.judge(world, drawn or {})  # type: ignore[arg-type]
    names = ("overwritten", "doubled", "frames_lost", "frames_to_people")
    return {name: value for name in names if (value := getattr(outcome, name))}


@pytest.mark.parametrize(
    ("world", "drawn", "found"),
    [
        (Left(machine()), {}, {}),
        (Left([*machine(), *machine()]), {}, {"doubled": 5}),
        (Left(machine()[1:]), {}, {"frames_lost": 1}),
        (Left(machine(), {"a"}), {}, {"frames_lost": 1}),
        (Left([stored("h", BOX, manual=True)]), {"a": {"h": BOX}}, {"frames_to_people": 1}),
        (Left([*machine(), stored("h", BOX, manual=True)]), {"a": {"h": [0.3, *BOX[1:]]}}, {"overwritten": 1}),
        (Left(machine()), {"a": {"h": BOX}}, {"overwritten": 1}),
    ],
    ids=["all is well", "written twice", "object missing", "stuck", "left to people", "edit undone", "object gone"],
)
def test_what_a_tool_left_behind_is_judged(world: Left, drawn: dict[str, Any], found: dict[str, int]) -> None:
    assert judged(world, drawn) == found


def test_a_seed_plans_the_same_faults_again() -> None:
    assert plan_faults(7) == plan_faults(7) != plan_faults(8)
