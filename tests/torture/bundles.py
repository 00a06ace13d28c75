"""T5: some rows of a request are dropped or fail, before or after the others are applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evidence import Json
from torture import points, pushes
from torture.arena import arena_for
from torture.kills import undisturbed

CREATE = {"query_type": "labelrow", "query_method": "PUT"}
SAVE = {"query_type": "labelrow", "query_method": "POST"}
READ = {"query_type": "labelrow", "query_method": "GET"}
LARGEST = 7


def partial(
    seed: int,
    amount: int,
    *,
    destination: str = "main",
    sizes: Sequence[int] = range(1, LARGEST + 1),
    double: str | None = None,
) -> list[str]:
    """Requests of 1 to 7 rows: each row of each lost in silence, each failing after the rest is applied; `amount`
    times all of them. A case whose row or request was never sent is a violation too: it would prove nothing."""
    found: list[str] = []
    cases = list(_cases(sizes)) * amount
    with arena_for("T5", 1 + len(cases)) as ground:
        expected, _ = undisturbed(ground, destination=destination)
        for size, fault in cases:
            match = ground.take()
            job = replace(match.job, destination=destination, write_rows=size, double=double)
            ground.admin("DELETE", "faults")
            ground.admin("POST", "faults", [{"times": 1, **fault}])
            trace = match.arena.folder / f"trace-{ground.taken}"
            codes = [pushes.run(replace(job, trace=str(trace)))]
            ground.admin("DELETE", "faults")
            codes.append(pushes.run(replace(job, retry_failed=True)))
            wrong = [f"exit codes {codes}"] if codes[1] else []
            wrong += [] if _is_met(fault, trace) else ["no such row was sent"]
            found += [f"{size} rows, {fault}: {one}" for one in wrong + match.verdict(expected)]
    return found


def _is_met(fault: Json, trace: Path) -> bool:
    """Whether the request at fault was sent, with the row in it that the fault is about."""
    sent = points.sent_rows(trace, " ".join(fault["match"].values()))[fault.get("after", 0) :]
    return bool(sent) and max(fault.get("items", [0])) < sent[0]


def _cases(sizes: Sequence[int]) -> Iterator[tuple[int, Json]]:
    """How many rows are sent at once, and what happens to which of them."""
    for rows in sizes:
        for kind in ("drop_items", "fail_items"):
            yield from ((rows, {"kind": kind, "items": [place], "match": SAVE}) for place in range(rows))
        yield rows, {"kind": "drop_items", "items": [rows - 1], "match": CREATE}
        yield from ((rows, {"kind": kind, "match": SAVE}) for kind in ("reset_before", "reset_after"))
        yield rows, {"kind": "reset_after", "after": rows % 3, "match": (CREATE, READ)[rows % 2]}
