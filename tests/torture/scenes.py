"""Small situations that the larger tests do not come to: a row that kills, people on our branch, a coarse server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from encord.objects import ObjectInstance
from encord.objects.coordinates import PointCoordinate, PolylineCoordinates
from encord.user_client import EncordUserClient

import history
from torture import pushes
from torture.arena import Arena, Match, arena_for
from torture.kills import undisturbed

DEATHS = 8
COARSE_DECIMALS = 1


def poison(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """T12's rule for whole runs: a row that kills every run is set aside in the end, and the others are labelled."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("poison", 1 + amount) as ground:
        for _ in range(amount):
            match = ground.take()
            victim = dice.choice(ground.free_rows)
            job = replace(match.job, double=double, poison=victim)
            codes: list[int] = []
            while len(codes) < DEATHS and (not codes or codes[-1] not in (0, 3)):
                codes.append(pushes.run(job))
            aside = [row["data_hash"] for row in match.book().rows if row["state"] == "set_aside"]
            if codes[-1] != 3 or aside != [victim]:
                found.append(f"{victim} kills its runs; exit codes {codes}, set aside: {aside}")
            found += match.violations(settled=codes[-1] == 3)
    return found


def people_on_our_branch(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """Somebody has drawn on our branch what we do not look for, before we come: it stays."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("branch", 2 + amount) as ground:
        match = ground.take()
        pushes.run(match.job)
        (branch,) = {change.after["branch"] for change in match.platform().rows} - {"main"}
        for _ in range(amount):
            match = ground.take()
            _draw_line(match, dice.choice(ground.free_rows), branch)
            code = pushes.run(replace(match.job, double=double))
            found += [f"exit code {code}"] * (code not in (0, 3)) + match.violations()
    return found


def _draw_line(match: Match, data_hash: str, branch: str) -> None:
    client = EncordUserClient.create_with_ssh_private_key(
        ssh_private_key_path=match.job.ssh_key_file, domain=match.job.domain
    )
    (row,) = client.get_project(match.project).list_label_rows_v2(data_hashes=[data_hash], branch_name=branch)
    row.initialise_labels()
    (line,) = (item for item in row.ontology_structure.objects if item.name == "Suture")
    drawn = ObjectInstance(line)
    drawn.set_for_frames(PolylineCoordinates([PointCoordinate(0.1, 0.1), PointCoordinate(0.5, 0.5)]), 0)
    row.add_object_instance(drawn)
    row.save()


def coarse_server(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """A server that rounds so much that labels move: what differs from what was meant never ends as done."""
    found: list[str] = []
    with arena_for("coarse", 1 + amount) as ground:
        meant = undisturbed(ground)[0]["rows"]
        with _coarse(ground):
            for _ in range(amount):
                match = ground.take()
                pushes.run(replace(match.job, double=double))
                done = {row["data_hash"] for row in match.book().rows if row["state"] == "done"}
                stands = match.labels()["rows"]
                wrong = [key for key in stands if key[1] in done and stands[key] != meant[key]]
                found += [f"{key} is done and differs from what was meant" for key in wrong]
                found += match.violations()
    return found


@contextmanager
def _coarse(ground: Arena) -> Iterator[None]:
    ground.admin("POST", "settings", {"coordinate_decimals": COARSE_DECIMALS})
    yield
    ground.admin("POST", "settings", {"coordinate_decimals": 6})


def lost_files(seed: int, amount: int, *, double: str | None = None) -> list[str]:
    """Media that are not to be had: no signed URL gets into the ledger, a report or a message."""
    found: list[str] = []
    with arena_for("files", 1 + amount) as ground:
        gone = {"kind": "status", "status": 404, "times": 10**6, "match": {"path_contains": "/blobs/"}}
        ground.admin("POST", "faults", [gone])
        for _ in range(amount):
            match = ground.take()
            pushes.run(replace(match.job, double=double))
            found += match.violations() + history.leaks(match.home)
    return found
