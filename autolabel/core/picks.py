"""Which rows of a run are worth a look: the worst of each kind and a random sample, while rows stream by."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolabel.core.assemble import Instance
from autolabel.core.identity import unit_interval


@dataclass(frozen=True)
class Traits:
    """What a row is ranked by; `chance` in [0, 1) belongs to the row and the run, so the order of rows is no matter.

    - `lowest_score`: of its objects on any frame; None where nothing was found.
    - `longest_track`: most frames that one object is on.
    """

    lowest_score: float | None
    objects: int
    longest_track: int
    chance: float


@dataclass(frozen=True)
class Shelf:
    """Room for `size` rows, those with the least `rank` first; a rank of None keeps a row out."""

    title: str
    size: int
    rank: Callable[[Traits], float | None]


SHELVES = (
    Shelf("Least certain", 6, lambda traits: traits.lowest_score),
    Shelf("Most objects", 3, lambda traits: -traits.objects if traits.objects > 1 else None),
    Shelf("Longest tracks", 3, lambda traits: -traits.longest_track if traits.longest_track > 1 else None),
    Shelf("Nothing found", 3, lambda traits: None if traits.objects else traits.chance),
    Shelf("At random, of the rest", 9, lambda traits: traits.chance),
)


class Picks:
    """Rows offered one by one; a bounded number is held at any time.

    A row that several shelves want stands on the first of them only, so each holds as many more as come before it.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._shelves: dict[Shelf, list[tuple[float, str]]] = {shelf: [] for shelf in SHELVES}

    def offer(self, data_hash: str, instances: Sequence[Instance]) -> bool:
        """Whether the row is held, for now: a later one may push it out."""
        traits = _traits(instances, unit_interval(f"sample {self._seed}", data_hash))
        room = 0
        for shelf, held in self._shelves.items():
            room += shelf.size
            rank = shelf.rank(traits)
            if rank is not None:
                insort(held, (rank, data_hash))
                del held[room:]
        return data_hash in self.held

    @property
    def held(self) -> frozenset[str]:
        return frozenset(data_hash for held in self._shelves.values() for _, data_hash in held)

    def chosen(self) -> list[tuple[str, list[str]]]:
        """(title, data hashes) of each shelf that is not empty."""
        shown: set[str] = set()
        shelves = []
        for shelf, held in self._shelves.items():
            fresh = [data_hash for _, data_hash in held if data_hash not in shown][: shelf.size]
            shown.update(fresh)
            shelves.append((shelf.title, fresh))
        return [(title, rows) for title, rows in shelves if rows]


def _traits(instances: Sequence[Instance], chance: float) -> Traits:
    scores = [place.detection.score for item in instances for place in item.placements]
    longest = max((len(item.placements) for item in instances), default=0)
    return Traits(min(scores, default=None), len(instances), longest, chance)


def spread(frame_indices: Sequence[int], most: int) -> list[int]:
    """At most `most` of them, evenly spaced, first and last included."""
    if len(frame_indices) <= most:
        return list(frame_indices)
    step = (len(frame_indices) - 1) / (most - 1)
    return [frame_indices[round(step * i)] for i in range(most)]
