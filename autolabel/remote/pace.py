"""How fast requests may leave, and when to stop asking. Shared by all threads of a run; knows nothing of HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from autolabel.errors import TransientOutageError

START_PER_S, MOST_PER_S, LEAST_PER_S = 200.0, 500.0, 0.1
GAIN_PER_S = 0.1
"""What each answer adds: at 20 requests a second, 2 more after a second."""
BURST_S = 1.0
ONE_EVENT_S = 1.0
"""Refusals so close to each other tell of the same overload and halve the rate once."""
FAILURES = 15


class Pace:
    """A token bucket whose rate halves with a refusal and grows slowly with answers. `clock` tells seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.rate_per_s = START_PER_S
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next_s = float("-inf")
        self._halved_s = float("-inf")

    def take(self) -> None:
        """Sleep until the next request may leave. What was not used of the last BURST_S may be made up for."""
        with self._lock:
            now_s = self._clock()
            slot_s = max(self._next_s, now_s - BURST_S)
            self._next_s = slot_s + 1 / self.rate_per_s
        if slot_s > now_s:
            self._sleep(slot_s - now_s)

    def slower(self) -> None:
        """The platform refused a request because there are too many."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._halved_s >= ONE_EVENT_S:
                self.rate_per_s = max(LEAST_PER_S, self.rate_per_s / 2)
                self._halved_s = self._next_s = now_s  # nothing is left of the burst

    def faster(self) -> None:
        """The platform answered."""
        with self._lock:
            self.rate_per_s = min(MOST_PER_S, self.rate_per_s + GAIN_PER_S)


class Circuit:
    """Opens for good after so many calls in succession that no usable answer came to."""

    def __init__(self) -> None:
        self._failed = 0

    def check(self) -> None:
        """Raises TransientOutageError once it is open, so that the run ends instead of asking on."""
        if self._failed >= FAILURES:
            raise TransientOutageError(
                f"the platform left {self._failed} calls in succession without a usable answer"
            )

    def failed(self) -> None:
        self._failed += 1

    def answered(self) -> None:
        if self._failed < FAILURES:
            self._failed = 0
