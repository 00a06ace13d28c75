"""T2: what the ledger says is on the disk before a request that changes the platform leaves. Needs `strace`.

kill -9 cannot tell a commit that was synced from one that was not: the page cache survives it. The system calls can.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace

from torture import pushes
from torture.arena import arena_for

WRITES_A_PUSH = 12
CALL = re.compile(r"(?P<thread>\d+) +(?P<call>pwrite64|sendto|fdatasync)\(\d+<(?P<file>[^>]*)>(?P<what>.*)")
SENT = re.compile(r'\\"labelrow\\", \\"query_method\\": \\"(?:PUT|POST)\\"|"POST /\S*(?:copy-branch|actions) ')


def order(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """At least `amount` requests that write, each held against the syncs of the ledger before it."""
    count = -(-amount // WRITES_A_PUSH)
    with arena_for("T2", 1 + count) as ground:
        jobs = [replace(ground.take(agent=True).job, double=double, write_rows=1) for _ in range(count)]
        trace = ground.folder / "strace.txt"
        command = ["strace", "-f", "-y", "-s", "150", "-e", "trace=pwrite64,fdatasync,sendto", "-o", str(trace)]
        command += [sys.executable, "-W", "ignore", __file__, json.dumps([asdict(job) for job in jobs])]
        subprocess.run(command, check=True, capture_output=True, text=True)
        sends, unsynced = judge(trace.read_text().splitlines())
    found = [f"only {sends} of {amount} requests were seen"] if sends < amount else []
    return found + [f"{len(unsynced)} of {sends} requests left before the ledger was on the disk"] * bool(unsynced)


def judge(calls: Iterable[str]) -> tuple[int, list[str]]:
    """How many requests that write were sent, and those that left while a commit was not on the disk.

    A commit of the thread that sends must have been synced. One of another thread may be under way: that it was is
    known when its sync comes; where none ever comes, the request left too early.
    """
    dirty: dict[str, list[str]] = {}
    sends, unsynced = 0, list[str]()
    for line in calls:
        found = CALL.match(line)
        if found is None:
            continue
        thread, is_wal = found["thread"], found["file"].endswith("-wal")
        if found["call"] == "fdatasync" and is_wal:
            dirty.pop(thread, None)
        elif found["call"] == "pwrite64" and is_wal:
            dirty.setdefault(thread, [])
        elif found["call"] == "sendto" and SENT.search(found["what"]):
            sends += 1
            unsynced += [line] if thread in dirty else []
            for waiting in dirty.values():
                waiting.append(line)
    left = {line for waiting in dirty.values() for line in waiting}
    return sends, sorted(left.union(unsynced))


if __name__ == "__main__":
    for wanted in json.loads(sys.argv[1]):
        pushes.push(pushes.Job(**{**wanted, "points": ()}))
