"""The command line as a user runs it, in a process of its own, against a running sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.conftest import RunningSandbox


@dataclass(frozen=True)
class Command:
    """`autolabel` with its home folder and the environment that points to a sandbox."""

    sandbox: RunningSandbox
    home: Path

    def environment(self, **changes: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ENCORD_", "AUTOLABEL_"))}
        own = {
            "ENCORD_DOMAIN": self.sandbox.domain,
            "ENCORD_SSH_KEY_FILE": self.sandbox.ssh_key_file,
            "AUTOLABEL_HOME": str(self.home),
            "AUTOLABEL_CONFIG": "demo",
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
            timeout=300,
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
        counted += sum(summary["left_alone"].values()) + sum(summary["set_aside"].values())
        assert counted == summary["total"], summary
        return summary
