"""Names that come out the same however often a row is run: recipe ids and object hashes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 (hex) over canonical JSON: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def object_hash(recipe_id: str, data_hash: str, feature_hash: str, slot: int, salt: int = 0) -> str:
    """The platform's 8-character object hash (6 bytes, base64) of one instance.

    Made of the slot, never of geometry: a box that moves by a hair on a second run must keep its name.
    `salt` is raised by the caller when two slots of one row collide (48 bits: about n^2 / 2^49).
    """
    key = "\x00".join([recipe_id, data_hash, feature_hash, str(slot), str(salt)])
    return base64.b64encode(hashlib.sha256(key.encode()).digest()[:6]).decode()


def unit_interval(purpose: str, data_hash: str) -> float:
    """A number in [0, 1) that belongs to a data unit for good: evenly spread, and another one for each purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\x00{data_hash}".encode()).digest()[:8]) / 2**64
