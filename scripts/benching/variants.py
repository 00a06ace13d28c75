"""How often a comparison of two variants is wrong, on simulated rows where the truth is known.

Both variants look at the same objects, some of them harder for both. Equal variants differ by chance alone; a better
one finds more of the hard objects. `python -m benching.variants --seeds 200` prints the table.
"""

import argparse
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from autolabel.evaluation.comparing import TOGETHER, Contest, compare
from autolabel.evaluation.values import Difference, Floats, Outcomes

DRAW_S, CHECK_S, DELETE_S, ADJUST_S, GOOD_IOU = 7.0, 1.4, 1.6, 3.8, 0.8
GRID = np.arange(0.05, 1.0, 0.01)
NAMES = ("a.yaml", "b.yaml")


@dataclass(frozen=True)
class World:
    """`gain`: by how much B sees objects better than A, in standard deviations of how hard they are."""

    units: int
    classes: int
    gain: float = 0.0
    objects_per_unit: float = 2.0
    false_per_unit: float = 1.0


def contests(world: World, seed: int) -> dict[str, Contest]:
    """The classes of one trial. Its luck is not that of the comparison, which is seeded too."""
    random = np.random.default_rng((seed, world.units))
    return {f"class {i}": _contest(world, random) for i in range(world.classes)}


def _contest(world: World, random: np.random.Generator) -> Contest:
    objects = random.poisson(world.objects_per_unit * random.gamma(2, 0.5, world.units))
    clutter = world.false_per_unit * random.gamma(2, 0.5, world.units)
    ease = random.normal(size=objects.sum())
    a, b = (_outcomes(objects, ease + 0.8 + more, clutter, random) for more in (0.0, world.gain))
    return Contest(a, b, choose, edit_s)


def _outcomes(objects: NDArray[np.intp], ease: Floats, clutter: Floats, random: np.random.Generator) -> Outcomes:
    seen = ease + random.normal(scale=0.7, size=ease.size)
    is_found = seen > -0.5
    false_units = np.repeat(np.arange(objects.size), random.poisson(clutter))
    right = expit(0.8 * seen[is_found])
    false = np.maximum(0.05, expit(random.normal(-1.0, 0.8, false_units.size)))
    ious = np.concatenate([0.5 + 0.5 * random.beta(4, 2, right.size), np.zeros(false.size)])
    units = np.concatenate([np.repeat(np.arange(objects.size), objects)[is_found], false_units])
    return Outcomes(np.concatenate([right, false]), ious, np.full(ious.size, np.nan), units, objects)


def edit_s(outcomes: Outcomes, threshold: float) -> Floats:
    """Seconds of work in each data unit, with what scores at least the threshold."""
    kept = outcomes.scores >= threshold
    saved_s = np.bincount(outcomes.units[kept], _saved_s(outcomes)[kept], outcomes.objects.size)
    return np.asarray(outcomes.objects * DRAW_S - saved_s, np.float64)


def choose(outcomes: Outcomes) -> float | None:
    """The threshold at which most is saved on these very rows: as much a matter of luck as any choice will be."""
    places = np.searchsorted(np.sort(outcomes.scores), GRID)
    saved = _saved_s(outcomes)[np.argsort(outcomes.scores)]
    above = np.concatenate([np.cumsum(saved[::-1])[::-1], [0.0]])[places]
    return float(GRID[above.argmax()]) if above.max() > 0 else None


def _saved_s(outcomes: Outcomes) -> Floats:
    right = DRAW_S - CHECK_S - np.where(outcomes.ious < GOOD_IOU, ADJUST_S, 0.0)
    return np.where(outcomes.is_right, right, -CHECK_S - DELETE_S)


def true_gain_s(world: World) -> float:
    """Seconds that B saves more an object, each at the threshold that is best in the long run."""
    if world.gain == 0:
        return 0.0
    one = _contest(
        World(50_000, 1, world.gain, world.objects_per_unit, world.false_per_unit), np.random.default_rng(0)
    )
    of_a, of_b = (edit_s(own, choose(own) or np.inf).sum() for own in (one.a, one.b))
    return float((of_a - of_b) / one.a.objects.sum())


@dataclass(frozen=True)
class Score:
    """Shares: of seeds with any class claimed, and with all together claimed; of classes claimed for B, and whose
    interval holds the truth; of seeds where that for all together does."""

    any_claimed: float
    together_claimed: float
    found: float
    held: float
    together_held: float


def score(world: World, seeds: int) -> Score:
    truth, rows = true_gain_s(world), []
    for seed in range(seeds):
        found = compare(contests(world, seed), NAMES, seed)
        together = found.pop(TOGETHER)
        classes = [own for own in found.values() if isinstance(own, Difference)]
        assert isinstance(together, Difference)
        rows.append(
            (
                any(_is_claimed(own) for own in classes),
                _is_claimed(together),
                np.mean([own.saved_s.low > 0 for own in classes]),
                np.mean([own.saved_s.low <= truth <= own.saved_s.high for own in classes]),
                together.saved_s.low <= truth <= together.saved_s.high,
            )
        )
    return Score(*np.mean(np.array(rows, dtype=float), axis=0))


def _is_claimed(difference: Difference) -> bool:
    return "no difference" not in difference.text


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=200)
    seeds = arguments.parse_args().seeds
    print("units classes gain true_s any_claimed together_claimed found  held together_held")
    for gain, units, classes in product((0.0, 0.6, 1.2), (40, 150), (1, 8)):
        world = World(units, classes, gain)
        own = score(world, seeds)
        print(
            f"{units:5} {classes:7} {gain:4.1f} {true_gain_s(world):6.2f} {own.any_claimed:11.3f}"
            f" {own.together_claimed:16.3f} {own.found:5.3f} {own.held:5.3f} {own.together_held:13.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
