"""The words of the scenes: which names training sees, which it never sees, and what a frame is asked."""

from collections.abc import Collection

import numpy as np

from autolabel.sandbox.scenes import MATERIALS
from autolabel.sandbox.tools import TOOLS

NAMES = [f"{material} {tool}" for material in MATERIALS for tool in TOOLS]

# 13 of 64. Every material and every tool is also in names that training sees.
HELD_OUT = [
    "gold scissors",
    "green scissors",
    "red needle holder",
    "black needle holder",
    "white clamp",
    "purple clamp",
    "steel forceps",
    "blue forceps",
    "green scalpel",
    "gold scalpel",
    "black syringe",
    "purple gauze",
    "blue kidney dish",
]
SEEN = [name for name in NAMES if name not in HELD_OUT]

PHRASES_A_FRAME = 8


def split(name: str) -> tuple[str, str]:
    """ "steel needle holder" -> material and tool."""
    material, _, tool = name.partition(" ")
    return material, tool


def akin(name: str, other: str) -> bool:
    """Whether two names share the material or the tool, but not both: what is easily confused."""
    (material, tool), (other_material, other_tool) = split(name), split(other)
    return (material == other_material) != (tool == other_tool)


def asked(present: Collection[str], rng: np.random.Generator) -> list[str]:
    """The 8 phrases of a frame to be judged, shuffled: all that is there, the rest akin to it."""
    there = list(dict.fromkeys(present))
    others = [name for name in NAMES if name not in there]
    hard = [name for name in others if any(akin(name, one) for one in there)]
    rng.shuffle(hard)
    rng.shuffle(others)
    phrases = list(dict.fromkeys([*there, *hard, *others]))[: max(PHRASES_A_FRAME, len(there))]
    rng.shuffle(phrases)
    return phrases
