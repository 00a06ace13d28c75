"""Parts of the receiver that are broken on purpose; see `doubles`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from autolabel.service.signatures import ENCORD, RawHeaders
from autolabel.wakes import Hint, Wakes

COMMIT_AFTER_S = 0.05


class AckBeforeCommit(Wakes):
    """Says that a call is kept, and keeps it a moment later."""

    def accept(self, digest: str, hint: Hint) -> bool:
        threading.Timer(COMMIT_AFTER_S, super().accept, (digest, hint)).start()
        return True


def _at_any_time(headers: RawHeaders, body: bytes, keys: Sequence[bytes], now_s: float) -> str:
    stamps = [int(value) for name, value in headers if name.endswith(b"timestamp") and value.isdigit()]
    return ENCORD.verify(headers, body, keys, stamps[0] if stamps else now_s)


WAKES = {None: Wakes, "AckBeforeCommit": AckBeforeCommit}
SCHEMES = {None: ENCORD, "ToleranceOff": replace(ENCORD, verify=_at_any_time)}
