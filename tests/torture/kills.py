"""T1 and T1r: a push is killed, at every named point or at any moment; the next run ends as if nothing had been."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from evidence import Json
from torture import points, pushes
from torture.arena import Arena, Match, arena_for

KILLED = 9
KILLS_A_PROJECT = (2, 4)
"""One more, and a row at which all of them come would rightly be given up."""
GROUNDS = ((False, "main"), (True, "main"), (True, "agent-stage"), (True, "branch"))
"""Whether the project begins with an Agent stage, and where its labels go."""


def everywhere(seed: int, amount: int, *, agent: bool = False, destination: str = "main") -> list[str]:
    """T1: at the first, second and last time that each point is reached, all of them `amount` times."""
    found: list[str] = []
    with arena_for(f"T1 {agent} {destination}", 1 + 250 * amount) as ground:
        expected, seen = undisturbed(ground, agent=agent, destination=destination)
        cases = list(_cases(seen))
        random.Random(seed).shuffle(cases)
        for name, time_ in cases * amount:
            match = ground.take(agent=agent)
            job = replace(match.job, destination=destination)
            code = pushes.run(replace(job, points=((name, time_, "kill"),)))
            again = pushes.run(job)
            wrong = [] if (code, again) == (KILLED, 0) else [f"exit codes {code} and {again}, not {KILLED} and 0"]
            found += [f"killed {name}, time {time_}: {one}" for one in wrong + match.verdict(expected)]
    return found


def _cases(seen: Counter[str]) -> Iterator[tuple[str, int]]:
    for name, times in seen.items():
        yield from ((name, time_) for time_ in sorted({1, min(2, times), times}))


def undisturbed(ground: Arena, *, agent: bool = False, destination: str = "main") -> tuple[Json, Counter[str]]:
    """The labels that a push ends with, and how often it reaches each point."""
    match = ground.take(agent=agent)
    trace = ground.folder / f"trace-{ground.taken}"
    code = pushes.run(replace(match.job, destination=destination, trace=str(trace)))
    if code or match.violations():
        raise AssertionError(f"an undisturbed push ends with {code}: {match.violations()}")
    return match.labels(), points.read(trace)


def at_random(
    seed: int, amount: int, *, grounds: Sequence[tuple[bool, str]] = GROUNDS, double: str | None = None
) -> list[str]:
    """T1r: `amount` kills at any moment, several in the same project."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("T1r", len(grounds) + 1 + amount) as ground:
        expected = {
            (agent, destination): undisturbed(ground, agent=agent, destination=destination)[0]
            for agent, destination in grounds
        }
        duration_s = _duration_s(ground.take(agent=True))
        left = amount
        while left > 0:
            (agent, destination), kills = dice.choice(grounds), min(left, dice.randint(*KILLS_A_PROJECT))
            match = ground.take(agent=agent)
            job = replace(match.job, destination=destination, double=double)
            moments_s = [dice.uniform(0.0, duration_s) for _ in range(kills)]
            for moment_s in moments_s:
                process = pushes.start(job)
                time.sleep(moment_s)
                process.kill()
                pushes.finish(process)
            left -= kills
            code = pushes.run(job)
            wrong = [f"exit code {code}"] if code else []
            found += [
                f"{destination}, killed after {moments_s} s: {one}"
                for one in wrong + match.verdict(expected[agent, destination])
            ]
    return found


def _duration_s(match: Match) -> float:
    began = time.monotonic()
    pushes.run(match.job)
    return time.monotonic() - began
