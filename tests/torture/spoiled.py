"""T19: a ledger that cannot be trusted or written. A push says so and leaves the platform alone."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torture import pushes
from torture.arena import Match, arena_for
from torture.kills import undisturbed

PAGE_BYTES = 4096
NEWER_SCHEMA = 99
SLACK_BYTES = 3 * PAGE_BYTES


def ledger(seed: int, amount: int) -> list[str]:
    """Each trouble `amount` times: refused, with nothing written to the platform; then a clean run does the work."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("T19", 1 + amount * len(TROUBLES)) as ground:
        expected, _ = undisturbed(ground)
        for name, (trouble, refusal, mends) in TROUBLES.items():
            for _ in range(amount):
                match = ground.take()
                _begin(match)
                before = match.labels()
                with trouble(match, dice) as job:
                    code = pushes.run(job)
                wrong = [] if code == refusal else [f"exit code {code}, not {refusal}"]
                wrong += ["the platform was written"] if match.labels() != before else []
                if mends:
                    code = pushes.run(match.job)
                    wrong += ([f"then exit code {code}"] if code else []) + match.verdict(expected)
                found += [f"{name}: {one}" for one in wrong]
    return found


def _begin(match: Match) -> None:
    """A first run, killed before it wrote anything: the ledger holds rows and detections."""
    pushes.run(replace(match.job, points=(("before labelrow PUT", 1, "kill"),)))


def _path(match: Match) -> Path:
    return match.home / "ledger.sqlite"


@contextmanager
def full_disk(match: Match, dice: random.Random) -> Iterator[pushes.Job]:
    """No file may grow any further: as a full disk, SQLite gets an error for its write."""
    grown = max(path.stat().st_size for path in match.home.glob("ledger.sqlite*"))
    yield replace(match.job, largest_file_bytes=grown + dice.randrange(SLACK_BYTES))


@contextmanager
def held_lock(match: Match, _dice: random.Random) -> Iterator[pushes.Job]:
    holder = sqlite3.connect(_path(match), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield replace(match.job, busy_timeout_ms=100)
    holder.execute("ROLLBACK")
    holder.close()


@contextmanager
def flipped_bytes(match: Match, dice: random.Random) -> Iterator[pushes.Job]:
    """In the header of some page of a file whose log has been folded in."""
    with sqlite3.connect(_path(match)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray(_path(match).read_bytes())
    at = dice.randrange(1, len(content) // PAGE_BYTES) * PAGE_BYTES
    content[at : at + 8] = bytes(255 - byte for byte in content[at : at + 8])
    _path(match).write_bytes(content)
    yield match.job


@contextmanager
def newer_schema(match: Match, _dice: random.Random) -> Iterator[pushes.Job]:
    with sqlite3.connect(_path(match)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {NEWER_SCHEMA}")
    yield match.job
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


@contextmanager
def network_disk(match: Match, _dice: random.Random) -> Iterator[pushes.Job]:
    yield replace(match.job, is_on_network=True)


TROUBLES = {
    "full disk": (full_disk, 1, True),
    "held lock": (held_lock, 75, True),
    "flipped bytes": (flipped_bytes, 1, False),
    "newer schema": (newer_schema, 1, True),
    "network file system": (network_disk, 1, True),
}
"""What is wrong, the exit code that says so, and whether it can be mended."""
