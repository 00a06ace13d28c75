"""What both trainings share: the optimiser, its schedule, an average of the weights, and progress on the screen."""

import copy
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

AVERAGE_DECAY = 0.998
WARM_UP_STEPS = 100
REPORT_EVERY, SAVE_EVERY = 50, 250


Loss = tuple[torch.Tensor, dict[str, float]]
"""What to follow downhill, and its parts by name, to be read."""


def train(
    model: Any,
    steps: int,
    peak_rate: float,
    loss_of_step: Callable[[Any, int], Loss],
    save: Callable[[Any], None],
) -> Any:
    """Runs AdamW over `loss_of_step(model, step)`; `save` gets the averaged model every so often.

    Returns the averaged model.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak_rate, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    average = copy.deepcopy(model).eval()
    averaged, trained = list(average.parameters()), list(model.parameters())
    recent: deque[dict[str, float]] = deque(maxlen=REPORT_EVERY)
    started = time.monotonic()
    model.train()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = peak_rate * _rate(step, steps)
        loss, figures = loss_of_step(model, step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, trained, 1 - min(AVERAGE_DECAY, (1 + step) / (20 + step)))
        recent.append(figures)
        if (step + 1) % REPORT_EVERY == 0:
            means = {name: round(float(np.mean([one[name] for one in recent])), 3) for name in figures}
            print(f"{type(model).__name__} {step + 1}/{steps} {time.monotonic() - started:.0f} s {means}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save(average)
    return average


def _rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
