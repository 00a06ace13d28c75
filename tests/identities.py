"""How well objects keep their identity: TrackEval's metrics, as `trackers` ships them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from trackers.eval.clear import compute_clear_metrics
from trackers.eval.hota import compute_hota_metrics
from trackers.eval.identity import compute_identity_metrics


class Figures(NamedTuple):
    """`association`: HOTA's association accuracy; `switches`: identity switches."""

    hota: float
    association: float
    idf1: float
    switches: float


def judge(
    ids: Sequence[Sequence[Hashable]], tracks: Sequence[Sequence[Hashable]], overlaps: Sequence[NDArray[np.float64]]
) -> Figures:
    """Frame by frame: true identities (N,), tracks (M,), and their overlap (N, M) in [0, 1]."""
    what: Any = _densely(ids), _densely(tracks), list(overlaps)
    hota, clear, identity = compute_hota_metrics(*what), compute_clear_metrics(*what), compute_identity_metrics(*what)
    return Figures(hota["HOTA"], hota["AssA"], identity["IDF1"], clear["IDSW"])


def _densely(ids: Sequence[Sequence[Hashable]]) -> list[NDArray[np.int64]]:
    """The same identities as 0, 1, 2 ...: what the metrics need."""
    numbers: dict[Hashable, int] = {}
    return [np.array([numbers.setdefault(one, len(numbers)) for one in frame], np.int64) for frame in ids]
