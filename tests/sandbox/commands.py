"""The command line as a user runs it, in a process of its own, against a running sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from encord.objects import ObjectInstance
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import BoundingBoxCoordinates, PolygonCoordinates, RotatableBoundingBoxCoordinates

if TYPE_CHECKING:
    from sandbox.conftest import RunningSandbox


@dataclass(frozen=True)
class Command:
    """`autolabel` with its home folder and the environment that points to a sandbox."""

    sandbox: RunningSandbox
    home: Path
    config: str = "demo"

    def environment(self, **changes: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
        own = {
            "ENCORD_DOMAIN": self.sandbox.domain,
            "ENCORD_SSH_KEY_FILE": self.sandbox.ssh_key_file,
            "AUTOLABEL_HOME": str(self.home),
            "AUTOLABEL_CONFIG": self.config,
        }
        return {**clean, **own, **changes}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command and do not wait for it; what it prints goes nowhere."""
        command = [sys.executable, "-m", "autolabel", *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command,
            env=self.environment(),
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "autolabel", *arguments],
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    @property
    def project(self) -> str:
        (project_hash,) = self.sandbox.projects.values()
        return project_hash

    def push(self, *arguments: str) -> dict[str, Any]:
        """Push the sandbox's project; the result as JSON, with the exit code as `exit`. Rows must add up."""
        done = self("push", "--project", self.project, "--yes", "--json", *arguments)
        assert done.returncode in (0, 3, 75), done.stderr
        summary: dict[str, Any] = json.loads(done.stdout) | {"exit": done.returncode}
        counted = sum(summary[part] for part in ("labelled", "empty", "done_before", "pending"))
        counted += sum(sum(summary[part].values()) for part in ("left_alone", "set_aside", "elsewhere"))
        assert counted == summary["total"], summary
        return summary


def kill_all(process: subprocess.Popen[str]) -> None:
    """A command and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class Label:
    """One object on main as the SDK reads it back; `numbers`: its confidence, then where it is, as fractions."""

    data_hash: str
    object_hash: str
    name: str
    numbers: tuple[float, ...]
    manual: bool


def labels(sandbox: RunningSandbox) -> list[Label]:
    """Everything on main, read back through the SDK alone, sorted."""
    rows = [row for row in sandbox.project().list_label_rows_v2() if row.label_hash]
    for row in rows:
        row.initialise_labels()
    found = [
        Label(row.data_hash, item.object_hash, item.object_name, _numbers(place), bool(place.manual_annotation))
        for row in rows
        for item in row.get_object_instances()
        for place in item.get_annotations()
    ]
    return sorted(found, key=lambda label: (label.data_hash, label.object_hash))


def _numbers(place: ObjectInstance.Annotation) -> tuple[float, ...]:
    where = place.coordinates
    if isinstance(where, PolygonCoordinates):
        rings = [ring for part in where.to_dict("multiple_polygons") for ring in part]
        points = np.concatenate([np.reshape(ring, (-1, 2)) for ring in rings])
        return (place.confidence, *points.min(0).tolist(), *points.max(0).tolist())
    if isinstance(where, BitmaskCoordinates):
        mask = where.to_numpy_array()
        y, x = (float(axis.mean()) for axis in mask.nonzero())
        return (place.confidence, float(mask.mean()), x / mask.shape[1], y / mask.shape[0])
    assert isinstance(where, BoundingBoxCoordinates | RotatableBoundingBoxCoordinates)
    return (place.confidence, where.top_left_x, where.top_left_y, where.width, where.height)


def ours(sandbox: RunningSandbox) -> list[Label]:
    return [label for label in labels(sandbox) if not label.manual]


def assert_same_labels(sandbox: RunningSandbox, expected: Sequence[Label]) -> None:
    """The same objects under the same hashes; numbers within 1e-3, since a batch of one rounds differently."""
    found = ours(sandbox)
    assert [replace(label, numbers=()) for label in found] == [replace(label, numbers=()) for label in expected]
    for label, other in zip(found, expected, strict=True):
        assert label.numbers == pytest.approx(other.numbers, abs=1e-3)
