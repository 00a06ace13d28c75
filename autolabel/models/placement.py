"""Where and how models run; what is answered does not depend on it, but for what a lower precision rounds off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Placement:
    """One model's place.

    - `device`: torch's word ("cpu", "cuda", "cuda:1"), or `auto` for the GPU where there is one.
    - `precision`: of weights and activations; coordinates of boxes are float32 always.
    - `is_reference`: transformers' own code throughout, no fast path of ours: slow, and what those must equal.
    """

    device: str = "auto"
    precision: Precision = "fp32"
    is_reference: bool = False
