"""T6: several pushes at once on one ledger, each held up here and there; labels land once, no row is fought over."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import ledgers
from postgres_servers import Server, name_of
from torture import points, pushes
from torture.arena import arena_for
from torture.kills import GROUNDS, undisturbed

CROWDS = (2, 4, 8)
LATEST_START_S, LONGEST_DELAY_S = 0.5, 0.3
DELAYS = 3


def together(seed: int, amount: int) -> list[str]:
    """`amount` schedules; each run may be killed as well, at one of ten."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("T6", len(GROUNDS) + amount) as ground:
        expected, seen = {}, {}
        for where in GROUNDS:
            expected[where], seen[where] = undisturbed(ground, agent=where[0], destination=where[1])
        for number in range(amount):
            where, crowd = GROUNDS[number % len(GROUNDS)], CROWDS[number % len(CROWDS)]
            match = ground.take(agent=where[0])
            job = replace(match.job, destination=where[1])
            names = sorted(seen[where])
            schedule = [(dice.uniform(0, LATEST_START_S), _delays(dice, names)) for _ in range(crowd)]
            running = []
            for place, (start_s, orders) in enumerate(sorted(schedule)):
                time.sleep(start_s / crowd)
                running.append((orders, pushes.start(replace(job, points=orders, device=f"device-{place}"))))
            codes = [pushes.finish(process) for _, process in running]
            allowed = (0, 9)
            wrong = [f"exit codes {codes}"] if set(codes) - set(allowed) else []
            codes.append(pushes.run(job))
            wrong += [f"the last run ends with {codes[-1]}"] if codes[-1] else []
            found += [
                f"schedule {number} of {crowd} runs, {where[1]}: {one}"
                for one in wrong + match.verdict(expected[where])
            ]
    return found


def on_hosts(seed: int, amount: int) -> list[str]:
    """`amount` schedules of runs that each have a home of their own, and share a ledger on a server; every second one
    has a run that is killed somewhere."""
    server, dice, found = ledgers.server(), random.Random(seed), list[str]()
    with arena_for("T6 hosts", len(GROUNDS) + amount) as ground:
        wanted = {where: undisturbed(ground, agent=where[0], destination=where[1]) for where in GROUNDS}
        for number in range(amount):
            where, crowd = GROUNDS[number % len(GROUNDS)], CROWDS[number % 2]
            match, (expected, seen) = ground.take(agent=where[0]), wanted[where]
            database = name_of(match.home)
            job = replace(match.share(server.database(database)), destination=where[1])
            hosts = [replace(job, home=str(match.home / f"host-{place}")) for place in range(crowd)]
            orders = [_delays(dice, sorted(seen)) for _ in hosts]
            if number % 2:
                orders[0] = (*orders[0], (dice.choice(sorted(seen)), 1, "kill"))
            running = [pushes.start(replace(host, points=own)) for host, own in zip(hosts, orders, strict=True)]
            codes = [pushes.finish(process) for process in running]
            _wait_for_the_dead(server, database)
            codes.append(pushes.run(hosts[-1]))
            wrong = [f"exit codes {codes}"] if set(codes[:-1]) - {0, 9} or codes[-1] else []
            found += [
                f"schedule {number} of {crowd} hosts, {where[1]}: {one}" for one in wrong + match.verdict(expected)
            ]
    return found


def _wait_for_the_dead(server: Server, database: str) -> None:
    """A server learns a moment later that a host has died, and gives its locks back then."""
    while server.sql(database, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"):
        time.sleep(0.01)


def _delays(dice: random.Random, names: list[str]) -> tuple[points.Order, ...]:
    """Where a run is held up, and perhaps killed."""
    orders = [(dice.choice(names), 1, f"sleep {dice.uniform(0, LONGEST_DELAY_S):.3f}") for _ in range(DELAYS)]
    if dice.random() < 0.1:
        orders.append((dice.choice(names), 1, "kill"))
    return tuple({(name, time_): (name, time_, what) for name, time_, what in orders}.values())
