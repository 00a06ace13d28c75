"""All tests of the harness, with the amounts of each submission and those before a release; run by `scripts/torture`.

A test is a function (seed, amount) -> violations. More of them is one line more in TESTS.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torture_http
import torture_media
import torture_people
from torture import bundles, durability, kills, ledger_model, overlap, receiving, scenes, spoiled, stalls

Run = Callable[[int, int], list[str]]


@dataclass(frozen=True)
class Test:
    """`pr` and `full`: how much of it; `unit`: of what."""

    run: Run
    pr: int
    full: int
    unit: str


_POINTS, _STALLS = "times every point", "stalls before a send"
_AT_STAGE = {"agent": True, "destination": "agent-stage"}
TESTS = {
    "T1 main": Test(kills.everywhere, 1, 5, _POINTS),
    "T1 agent-stage": Test(partial(kills.everywhere, **_AT_STAGE), 1, 5, _POINTS),
    "T1 handed over": Test(partial(kills.everywhere, agent=True), 0, 5, _POINTS),
    "T1 branch": Test(partial(kills.everywhere, destination="branch"), 0, 5, _POINTS),
    "T1r": Test(kills.at_random, 150, 2000, "kills"),
    "T2": Test(durability.order, 200, 5000, "requests that write"),
    "T3 main": Test(stalls.before_sending, 25, 250, _STALLS),
    "T3 agent-stage": Test(partial(stalls.before_sending, destination="agent-stage"), 25, 250, _STALLS),
    "T5": Test(bundles.partial, 1, 10, "times every row of 1 to 7"),
    "T6": Test(overlap.together, 30, 1000, "schedules of 2, 4 or 8 runs"),
    "T6 hosts": Test(overlap.on_hosts, 0, 500, "schedules of 2 or 4 hosts with one Postgres ledger"),
    "T8": Test(ledger_model.compare, 300, 10_000, "sequences of up to 50 steps"),
    "T14": Test(receiving.forged, 5000, 100_000, "webhooks, most of them forged, stale or replayed"),
    "T15": Test(receiving.fuzzed, 40_000, 10_000_000, "fuzzed webhooks"),
    "T17": Test(receiving.load, 10, 600, "seconds of load on the receiver"),
    "T17 kills": Test(receiving.killed, 25, 500, "kills of the receiver under load"),
    "T17 rotation": Test(receiving.rotated, 10, 200, "rotations of a secret under load"),
    "T12 runs": Test(scenes.poison, 4, 100, "rows that kill their runs"),
    "T19": Test(spoiled.ledger, 5, 50, "times each trouble"),
    "people on our branch": Test(scenes.people_on_our_branch, 4, 100, "rows drawn on before we come"),
    "lost files": Test(scenes.lost_files, 2, 50, "projects whose files are gone"),
    "coarse server": Test(scenes.coarse_server, 2, 50, "projects on a server that rounds"),
}
"""Name -> test. One of `pr` 0 is run by the script only."""


def _counted(run: Callable[[int, int], int], seed: int, amount: int) -> list[str]:
    return ["see above"] * run(seed, amount)


def _in_folder(run: Callable[[Path, int, int], list[str]], seed: int, amount: int) -> list[str]:
    with TemporaryDirectory(prefix="torture ") as folder:
        return run(Path(folder), seed, amount)


ELSEWHERE = {
    "T4": Test(partial(_in_folder, torture_http.http_faults), 162, 8100, "faults of the wire"),
    "T7": Test(torture_people.run, 2000, 200_000, "human edits"),
    "T9": Test(partial(_in_folder, torture_http.expired_urls), 60, 1000, "expired URLs"),
    "T10": Test(partial(_counted, torture_media.malformed_media), 500, 10_000, "malformed files"),
    "T11": Test(partial(_counted, torture_media.malformed_answers), 500, 20_000, "malformed answers"),
    "T12": Test(partial(_counted, torture_media.poison), 10, 100, "times each poison"),
    "T13": Test(partial(_counted, torture_media.out_of_memory), 50, 200, "shortages of device memory"),
}
"""Tests that have a place of their own in the suite; the script runs them too."""


@dataclass(frozen=True)
class Bug:
    """A bug in a double of the part that it breaks, and what must turn red with it.

    `expects`: what the violation says by which it is found. Another one, of a double that only crashes, is no find.
    """

    double: str
    run: Callable[..., list[str]]
    expects: str
    amount: int = 2

    @property
    def test(self) -> str:
        function = self.run.func if isinstance(self.run, partial) else self.run
        return f"{function.__module__.removeprefix('torture.')}.{function.__name__}"

    def shown(self, seed: int) -> tuple[list[str], list[str]]:
        """The violations that were expected, and all others."""
        violations = self.run(seed, self.amount, double=self.double)
        expected = [one for one in violations if re.search(self.expects, one)]
        return expected, [one for one in violations if one not in expected]


_IN_TWOS = partial(bundles.partial, sizes=(2,))
_OVERSLEPT = partial(stalls.before_sending, destination="agent-stage", sends=[stalls.SAVE], stop_share=1.0)
"""A run that stops before a save and goes on when another has finished all rows: it may not write any more then."""
BUGS = {
    "random hashes": Bug(
        "RandomNames",
        partial(kills.at_random, grounds=[(False, "main")]),
        r"I2: an object bears a name that no recipe gives",
    ),
    "SDK retries on for writes": Bug("Resending", _IN_TWOS, r"I8: saved", 1),
    "bundle executed again": Bug("BundleTwice", _IN_TWOS, r"I8: saved", 1),
    "done without read-back": Bug(
        "NoReadBack", partial(_IN_TWOS, destination="branch"), r"I3: a receipt names .* which never stood there", 1
    ),
    "attempt counted after the work": Bug(
        "AttemptAfterWork", scenes.poison, r"kills its runs; .* set aside: \[\]$", 1
    ),
    "lease-only writer": Bug(
        "LeaseOnly", _OVERSLEPT, r"I6: (written by a run that had lost the row|main was written)"
    ),
    "NORMAL sync": Bug("NormalSync", durability.order, r"requests left before the ledger was on the disk", 12),
    "done before the receipt": Bug(
        "LateReceipts",
        partial(kills.at_random, grounds=[(True, "agent-stage")]),
        r"I6: moved on before its receipt was kept",
    ),
    "initialise_labels on main": Bug("OpensMain", scenes.people_on_our_branch, r"I6: main was written although", 1),
    "filter, then save": Bug("FilterThenSave", scenes.people_on_our_branch, r"I1: .* of people changed", 1),
    "redaction off": Bug("TellsUrls", scenes.lost_files, r"I9: ", 1),
    "read-back without coordinates": Bug("NoCoordinates", scenes.coarse_server, r"is done and differs", 1),
    "tolerance off": Bug("ToleranceOff", receiving.forged, r"a stale call is accepted", 200),
    "verifier that trusts its input": Bug("Naive", receiving.fuzzed, r"an untyped error: \w+Error", 40_000),
    "ack before commit": Bug("AckBeforeCommit", receiving.killed, r"acknowledged calls are lost", 4),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of everything that is left to chance")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on towards the full amounts for so long")
    parser.add_argument("--only", choices=[*TESTS, *ELSEWHERE], help="one test, to replay what it found")
    parser.add_argument("--seeded-bugs", action="store_true", help="show that each bug of the list is found")
    wanted = parser.parse_args()
    if wanted.seeded_bugs:
        return seeded_bugs(wanted.seed)
    tests = TESTS | ELSEWHERE
    return torture({wanted.only: tests[wanted.only]} if wanted.only else tests, wanted.seed, wanted.minutes * 60)


def torture(tests: dict[str, Test], seed: int, limit_s: float) -> int:
    """Rounds of PR amounts, each with a seed of its own, until each test has its full amount or the time is over."""
    ends_s, failed, done = time.monotonic() + limit_s, 0, dict.fromkeys(tests, 0)
    for round_, (name, test) in ((round_, item) for round_ in count() for item in tests.items()):
        if round_ and (time.monotonic() > ends_s or all(done[name] >= test.full for name, test in tests.items())):
            break
        amount = min(test.pr or 1, test.full - done[name])
        if amount > 0:
            failed += _report(name, test, seed + round_, amount)
            done[name] += amount
    sys.stdout.writelines(f"{name:20} {done[name]:6} of {test.full} {test.unit}\n" for name, test in tests.items())
    return int(failed > 0)


def _report(name: str, test: Test, seed: int, amount: int) -> int:
    began_s = time.monotonic()
    violations = test.run(seed, amount)
    how = f"seed {seed}, {time.monotonic() - began_s:.0f} s"
    sys.stdout.write(f"{name:20} {amount:6} {test.unit}: {len(violations)} violations ({how})\n")
    sys.stdout.writelines(f"    {one}\n" for one in violations)
    sys.stdout.flush()
    return len(violations)


def seeded_bugs(seed: int) -> int:
    missed = 0
    for name, bug in BUGS.items():
        found, others = bug.shown(seed)
        missed += not found
        verdict = f"found: {found[0]}" if found else f"MISSED (expected {bug.expects}; others: {others[:3]})"
        sys.stdout.write(f"{name:32} {bug.test:30} {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(BUGS) - missed} of {len(BUGS)} found\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
