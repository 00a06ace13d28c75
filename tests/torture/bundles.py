"""T5: some rows of a request are dropped or fail, before or after the others are applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from evidence import Json
from torture import pushes
from torture.arena import arena_for
from torture.kills import undisturbed

REQUESTS: dict[str, Json] = {
    "create": {"query_type": "labelrow", "query_method": "PUT"},
    "save": {"query_type": "labelrow", "query_method": "POST"},
    "read": {"query_type": "labelrow", "query_method": "GET"},
}
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
    times all of them."""
    found: list[str] = []
    cases = list(_cases(sizes)) * amount
    with arena_for("T5", 1 + len(cases)) as ground:
        expected, _ = undisturbed(ground, destination=destination)
        for size, fault in cases:
            match = ground.take()
            job = replace(match.job, destination=destination, write_rows=size, double=double)
            ground.admin("DELETE", "faults")
            ground.admin("POST", "faults", [{"times": 1, **fault}])
            codes = [pushes.run(job)]
            ground.admin("DELETE", "faults")
            codes.append(pushes.run(replace(job, retry_failed=True)))
            wrong = [f"exit codes {codes}"] if codes[1] else []
            found += [f"{size} rows, {fault}: {one}" for one in wrong + match.verdict(expected)]
    return found


def _cases(sizes: Sequence[int]) -> Iterator[tuple[int, Json]]:
    """How many rows are sent at once, and what happens to which of them."""
    for rows in sizes:
        for place in range(rows):
            for name in ("create", "save"):
                yield rows, {"kind": "drop_items", "items": [place], "match": REQUESTS[name]}
                yield rows, {"kind": "fail_items", "items": [place], "match": REQUESTS[name]}
        for name, match in REQUESTS.items():
            for kind in ("reset_before", "reset_after"):
                yield rows, {"kind": kind, "after": rows % 3 if name == "read" else 0, "match": match}
