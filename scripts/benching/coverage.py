"""How often the interval of the time ratio holds the true one, in made worlds: `python -m benching.coverage`.

The worlds are fixed: how many annotators, how unequally they share the rows, how much what they gain differs between
them, how the times of rows scatter, how large the holdout is. What the true ratio is makes no difference to the
interval but for whole seconds, so it goes round 0.5, 0.75 and 1.0 with the seed; at 1.0, holding it is to say "no
difference shown". Where the sample is too small for a figure, none is shown, and none counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from autolabel.evaluation.timing import FEWEST_ANNOTATORS, describe, time_ratio
from autolabel.evaluation.values import Floats, TimeRatio

ANNOTATORS = (1, 2, 3, 4, 6, 8, 12)
LOADS = ("equal", "unequal")
EFFECTS = (0.0, 0.15, 0.3)
SCATTERS = ("lognormal", "t of 3", "wider with", "stalls")
HOLDOUTS = (0.5, 0.15)
RATIOS = (0.5, 0.75, 1.0)
ROWS, SEEDS = 900, 1000
LOOK_EVERY, PATIENT_SEEDS = 20, 100
LEAST_HELD = 0.93


@dataclass(frozen=True)
class World:
    """`effects`: by how much the logarithm of the ratio differs between annotators, as a standard deviation."""

    annotators: int
    loads: str
    effects: float
    scatter: str
    holdout: float

    def seconds(self, ratio: float, seed: int) -> tuple[Floats, NDArray[np.bool_], list[str]]:
        """Of each row: whole seconds, whether it had pre-labels, whose it was."""
        rng = np.random.default_rng([seed, self.annotators])
        share = np.ones(self.annotators) if self.loads == "equal" else 0.65 ** np.arange(self.annotators)
        who = rng.choice(self.annotators, ROWS, p=share / share.sum())
        has = rng.random(ROWS) >= self.holdout
        gain = np.log(ratio) + self.effects * rng.standard_normal(self.annotators)
        pace = 3.5 + 0.4 * rng.standard_normal(self.annotators)
        logs: Floats = pace[who] + gain[who] * has + self._scatter(rng, has)
        return np.exp(logs).round().clip(1), has, [str(place) for place in who]

    def _scatter(self, rng: np.random.Generator, has: NDArray[np.bool_]) -> Floats:
        noise: Floats = 0.5 * rng.standard_normal(ROWS)
        if self.scatter == "t of 3":
            noise = 0.5 / np.sqrt(3) * rng.standard_t(3, ROWS)
        elif self.scatter == "wider with":
            noise[has] *= 1.4
        elif self.scatter == "stalls":  # somebody goes for coffee
            noise[rng.random(ROWS) < 0.05] += np.log(4)
        return noise


@dataclass(frozen=True)
class Held:
    """Of the figures that were shown for some seeds: how many, how many hold the true ratio, and how far their
    interval reaches, as a factor; of those at a true ratio of 1, how many there are, and how many show no difference.
    """

    seeds: int
    shown: int
    held: int
    reach: float
    at_one: int
    silent: int


def worlds() -> Iterator[World]:
    """With fewer than three annotators the interval is about these people: none where effects differ between them."""
    every = (World(*traits) for traits in product(ANNOTATORS, LOADS, EFFECTS, SCATTERS, HOLDOUTS))
    return (world for world in every if world.annotators >= FEWEST_ANNOTATORS or not world.effects)


def held(world: World, seeds: Sequence[int]) -> Held:
    found = [(truth, time_ratio(*world.seconds(truth, seed))) for seed in seeds for truth in [_truth(seed)]]
    shown = [(truth, result) for truth, result in found if isinstance(result, TimeRatio)]
    at_one = [describe(result) for truth, result in shown if truth == 1]
    reach = [np.sqrt(result.ratio.high / result.ratio.low) for _, result in shown]
    return Held(
        len(seeds),
        len(shown),
        sum(result.ratio.low <= truth <= result.ratio.high for truth, result in shown),
        float(np.median(reach)) if shown else np.nan,
        len(at_one),
        sum(text.startswith("no difference shown") for text in at_one),
    )


def holds_at_first(world: World, seed: int) -> bool | None:
    """Whether the first figure that is shown while the rows come in holds the true ratio; None if none ever is."""
    seconds, has, who = world.seconds(_truth(seed), seed)
    for rows in range(LOOK_EVERY, ROWS + 1, LOOK_EVERY):
        found = time_ratio(seconds[:rows], has[:rows], who[:rows])
        if isinstance(found, TimeRatio):
            return found.ratio.low <= _truth(seed) <= found.ratio.high
    return None


def _truth(seed: int) -> float:
    return RATIOS[seed % len(RATIOS)]


def main() -> None:
    found = {world: held(world, range(SEEDS)) for world in worlds()}
    print(f"{len(found)} worlds of {ROWS} rows, {SEEDS} seeds each")
    print(
        "| annotators | loads | effects differ by | holds the ratio: least, all | silent at 1.0 | shown | reaches |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for traits in dict.fromkeys((w.annotators, w.loads, w.effects) for w in found):
        some = [h for w, h in found.items() if (w.annotators, w.loads, w.effects) == traits and h.shown]
        shown = sum(h.shown for h in some)
        shares = (
            min(h.held / h.shown for h in some),
            sum(h.held for h in some) / shown,
            sum(h.silent for h in some) / sum(h.at_one for h in some),
            shown / sum(h.seeds for h in some),
        )
        least, everywhere, silent, share = (f"{value:.3f}" for value in shares)
        cells = (*traits, f"{least}, {everywhere}", silent, share, f"x {np.mean([h.reach for h in some]):.2f}")
        print("|", *(f"{cell} |" for cell in cells))
    short = {world: h for world, h in found.items() if h.held < LEAST_HELD * h.shown}
    print(f"under {LEAST_HELD}: {len(short)} of {len(found)} worlds")
    for world, h in short.items():
        print(f"- {world}: {h.held} of {h.shown} figures")
    first = [holds_at_first(world, seed) for world in found for seed in range(PATIENT_SEEDS)]
    told = [holds for holds in first if holds is not None]
    print(f"looked at every {LOOK_EVERY} rows, {sum(told)} of {len(told)} first figures hold the ratio")


if __name__ == "__main__":
    main()
