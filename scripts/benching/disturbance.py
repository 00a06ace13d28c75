"""What befalls a run, all of it planned from a seed: HTTP faults, kill -9, and people at work meanwhile."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from benching.world import World, objects_of

KILLS = 6
FAULTS = 12
LATEST_REQUEST = 8
"""A fault is met by one of the first so many requests of its kind."""
PEOPLE_REST_S = 0.05
PEOPLES_SHARE = 0.4
"""Of the rows; on the others nobody works."""
LIMIT_S = 90.0

CALLS: Sequence[dict[str, str]] = (
    {"query_type": "labelrow", "query_method": "PUT"},
    {"query_type": "labelrow", "query_method": "POST"},
    {"query_type": "labelrow", "query_method": "GET"},
    {"query_type": "labelrowmetadata"},
    {"path_contains": "/actions"},
    {"path_contains": "/tasks"},
    {"path_contains": "/copy-branch"},
)
MISHAPS: Sequence[dict[str, Any]] = (
    {"kind": "status", "status": 429, "retry_after_s": 1},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
)


def plan_faults(seed: int) -> list[dict[str, Any]]:
    """Each is met once, by whoever sends requests of that kind."""
    chance = random.Random(f"faults {seed}")
    return [
        {
            **chance.choice(MISHAPS),
            "match": chance.choice(CALLS),
            "after": chance.randrange(LATEST_REQUEST),
            "times": 1,
        }
        for _ in range(FAULTS)
    ]


@dataclass
class Runs:
    """How often a command was killed, what it ended with otherwise, and how long all of it took."""

    exits: list[int] = field(default_factory=list)
    kills: int = 0
    wall_s: float = 0.0


def run_until(
    start: Callable[[], subprocess.Popen[bytes]], is_done: Callable[[], bool], kills_s: Sequence[float]
) -> Runs:
    """Run a command again and again, killed after each of `kills_s`, then until it is done or three more ended."""
    runs, began_s = Runs(), time.monotonic()
    for limit_s in [*kills_s, LIMIT_S, LIMIT_S, LIMIT_S]:
        process = start()
        try:
            runs.exits.append(process.wait(limit_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            runs.kills += 1
        else:
            if is_done():
                break
    runs.wall_s = time.monotonic() - began_s
    return runs


def plan_kills(seed: int, undisturbed_s: float) -> list[float]:
    """Moments as shares of what the tool takes undisturbed: the same shares for each."""
    chance = random.Random(f"kills {seed}")
    return [chance.uniform(0.3, 1.0) * undisturbed_s for _ in range(KILLS)]


class People:
    """Draw on rows of theirs and correct what they drew, on a thread of their own, until the block ends.

    `drawn`: data hash -> object hash -> the box as they left it.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._chance = world, random.Random(f"people {seed}")
        rows = sorted(world.keys)
        self._rows = self._chance.sample(rows, int(PEOPLES_SHARE * len(rows)))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.drawn: dict[str, dict[str, list[float]]] = {}

    def __enter__(self) -> "People":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(PEOPLE_REST_S):
            self._act(self._chance.choice(self._rows))

    def _act(self, data_hash: str) -> None:
        mine, box = self.drawn.setdefault(data_hash, {}), self._box()
        person = {"project": self._world.project, "data_hash": data_hash, "box_norm": box}
        if mine and self._chance.random() < 0.5:
            object_hash = self._chance.choice(sorted(mine))
            action = {"action": "edit", "object_hash": object_hash}
        else:
            action = {"action": "draw"}
        try:
            (row,) = self._world.admin("POST", "human", person | action)["changed"]
        except requests.HTTPError:
            return  # what was to be corrected is gone: it is missed in the end
        mine[action.get("object_hash") or objects_of(row)[-1]["objectHash"]] = box

    def _box(self) -> list[float]:
        return [round(self._chance.uniform(0.05, 0.45), 3) for _ in range(4)]
