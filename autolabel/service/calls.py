"""What became of the calls since the service began, counted for metrics; told in the log, but never by the flood."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from autolabel.logs import get_logger

LINES, WINDOW_S = 20, 60.0
"""Calls that change nothing cost their sender nothing: of each outcome no more lines are logged in such a time."""

_log = get_logger(__name__)


class Calls:
    """Counts by route and outcome. Used on the event loop's thread; a snapshot may be taken on any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[tuple[str, str]] = Counter()
        self._windows: dict[str, tuple[float, int]] = {}

    def count(self, route: str, outcome: str) -> None:
        self._counts[route, outcome] += 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """(route, outcome) -> how many."""
        return dict(self._counts)

    def tell(self, route: str, outcome: str, **about: str) -> None:
        """Log a call that stored nothing, up to LINES in WINDOW_S of its outcome; then how many were not told."""
        now_s = self._clock()
        began_s, told = self._windows.get(outcome, (now_s, 0))
        if now_s - began_s >= WINDOW_S:
            if told > LINES:
                _log.warning("webhooks not logged", outcome=outcome, calls=told - LINES)
            began_s, told = now_s, 0
        self._windows[outcome] = (began_s, told + 1)
        if told < LINES:
            _log.info("webhook", route=route, outcome=outcome, **about)
