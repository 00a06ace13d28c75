"""Outlines of surgical tools, as parts that are painted one over the other.

A tool lies along x, about 1 long and around the origin, handles at -0.5 and tip at 0.5, y down.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A filled outline; further contours inside it are holes. `tone`: how light it is beside the whole tool."""

    contours: list[Points]
    tone: float = 1.0


def scissors(rng: Rng) -> list[Part]:
    """Two crossed halves: pointed blades, wide open, and big rings."""
    opening, curve = rng.uniform(0.13, 0.3), rng.uniform(0, 0.02)
    blade = _limb([(0.02, 0), (0.2, -curve), (0.5, 0)], [0.07, 0.062, 0.006])
    shank = _limb([(0.06, 0), (-0.14, 0.025), (-0.27, 0.065)], [0.06, 0.036, 0.036])
    ring = _ring((-0.375, 0.09), (0.115, 0.088), 0.032, 0.15)
    half = [Part([blade], 1.15), Part([shank]), Part(ring)]
    pivot = Part([_ellipse((0.06, 0), (0.024, 0.024))], 0.75)
    return [*_turned(_mirrored(half), opening, 0.06), *_turned(half, -opening, 0.06), pivot]


def needle_holder(rng: Rng) -> list[Part]:
    """Long, straight and closed: slim shanks, small round rings, short blunt jaws."""
    gap = rng.uniform(0.075, 0.095)
    shank = _limb([(0.22, 0.012), (-0.15, gap * 0.45), (-0.36, gap * 0.75)], [0.034, 0.032, 0.034])
    ring = _ring((-0.425, gap), (0.072, 0.066), 0.028)
    half = [Part([shank]), Part(ring)]
    jaws = _limb([(0.2, 0), (0.27, 0), (0.47, 0), (0.5, 0)], [0.05, 0.088, 0.066, 0.04])
    slit = _limb([(0.27, 0), (0.5, 0)], [0.012, 0.012])
    joint = Part([_ellipse((0.22, 0), (0.05, 0.045))], 0.85)
    return [*_mirrored(half), *half, Part([jaws], 1.1), Part([slit], 0.55), joint]


def clamp(rng: Rng) -> list[Part]:
    """Ring handles with a ratchet between them, and two long jaws that bend to one side."""
    bend, opening = rng.uniform(0.16, 0.24), rng.uniform(0.09, 0.16)
    path = [(-0.02, 0), (0.15, bend * 0.08), (0.3, bend * 0.36), (0.4, bend * 0.68), (0.47, bend)]
    jaw = Part([_limb(path, [0.066, 0.06, 0.052, 0.044, 0.03])], 1.1)
    shank = Part([_limb([(0.02, 0), (-0.16, 0.055), (-0.31, 0.115)], [0.06, 0.036, 0.036])])
    ring = Part(_ring((-0.405, 0.125), (0.095, 0.08), 0.031))
    half = [shank, ring]
    ratchet = Part([_limb([(-0.24, -0.085), (-0.24, 0.085)], [0.036, 0.036])], 0.85)
    pivot = Part([_ellipse((0, 0), (0.034, 0.034))], 0.8)
    jaws = [*_turned([jaw], -opening, 0), *_turned([jaw], opening, 0)]
    return [*jaws, ratchet, *_mirrored(half), *half, pivot]


def forceps(rng: Rng) -> list[Part]:
    """Two springy arms joined at the back, open at the tips."""
    bulge, tip = rng.uniform(0.075, 0.11), rng.uniform(0.02, 0.05)
    path = [(-0.5, 0.006), (-0.36, bulge * 0.55), (-0.05, bulge), (0.2, bulge * 0.8), (0.5, tip)]
    arm = [Part([_limb(path, [0.036, 0.046, 0.062, 0.05, 0.02])])]
    grip = [Part([_limb([(-0.12, bulge * 0.96), (0.1, bulge * 0.92)], [0.034, 0.034])], 0.75)]
    heel = Part([_limb([(-0.5, 0), (-0.38, 0)], [0.05, 0.09])], 0.9)
    return [*_mirrored(arm + grip), *arm, *grip, heel]


def scalpel(rng: Rng) -> list[Part]:
    """A flat handle, a narrow neck, and a blade with one round edge."""
    belly = rng.uniform(0.055, 0.075)
    handle = _limb([(-0.5, 0), (-0.46, 0), (0.0, 0), (0.1, 0), (0.2, 0)], [0.05, 0.078, 0.085, 0.06, 0.044])
    groove = _limb([(-0.3, 0), (-0.05, 0)], [0.03, 0.03])
    edge = [(0.17, belly), (0.3, belly * 1.15), (0.4, belly * 0.85), (0.46, belly * 0.35), (0.5, -0.035)]
    blade = np.array([(0.17, -0.03), *edge])
    return [Part([blade], 1.3), Part([handle]), Part([groove], 0.8)]


def syringe(rng: Rng) -> list[Part]:
    """Thumb rest, plunger, finger flange, a wide barrel with marks, and a needle."""
    out = rng.uniform(0.32, 0.46)
    rod = _limb([(-out, 0), (-0.15, 0)], [0.048, 0.048])
    rest = _limb([(-out - 0.02, 0), (-out + 0.015, 0)], [0.15, 0.15])
    flange = _limb([(-0.2, 0), (-0.165, 0)], [0.25, 0.25])
    barrel = _limb([(-0.17, 0), (0.19, 0), (0.215, 0)], [0.15, 0.15, 0.08])
    stopper = _limb([(-0.03, 0), (0.03, 0)], [0.13, 0.13])
    marks = [Part([_limb([(x, 0.07), (x, 0.02)], [0.012, 0.012])], 0.6) for x in (0.065, 0.105, 0.145)]
    needle = _limb([(0.2, 0), (0.27, 0), (0.28, 0), (0.5, 0)], [0.056, 0.05, 0.02, 0.014])
    below = [Part([rod], 0.85), Part([rest]), Part([needle], 1.1), Part([barrel], 1.15), Part([stopper], 0.7)]
    return [*below, *marks, Part([flange])]


def gauze(rng: Rng) -> list[Part]:
    """A soft square swab, folded over, with a wavy border."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    square = 0.3 / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles))).clip(0.78)
    waves = 1 + 0.02 * np.sin(angles * rng.integers(7, 12) + rng.uniform(0, 6)) + rng.normal(0, 0.008, 48)
    sides = (1.0, rng.uniform(0.75, 1.0))
    border = np.stack([np.cos(angles), np.sin(angles)], 1) * (square * waves)[:, None] * sides
    fold = rng.uniform(-0.1, 0.1)
    flap = border[border[:, 0] > fold]
    flap = flap[np.argsort(np.arctan2(flap[:, 1], flap[:, 0] - fold))]
    ends = 0.24 * sides[1]
    threads = [_limb([(x, -ends), (x, ends)], [0.008, 0.008]) for x in (-0.24, -0.16, -0.08, 0, 0.08, 0.16, 0.24)]
    threads += [_limb([(-0.25, y), (0.25, y)], [0.008, 0.008]) for y in np.linspace(-0.8, 0.8, 6) * ends]
    return [Part([border]), Part([flap], 1.1), *(Part([thread], 0.88) for thread in threads)]


def kidney_dish(rng: Rng) -> list[Part]:
    """A bean-shaped bowl: a rim, and the deeper inside."""
    bow, width = rng.uniform(0.75, 1.15), rng.uniform(0.18, 0.22)
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    cos, sin = np.sign(cos) * np.abs(cos) ** 0.8, np.sign(sin) * np.abs(sin) ** 0.6

    def bean(scale: float, narrower: float) -> Points:
        x, y = 0.5 * scale * cos, (width - narrower) * sin
        return np.stack([x, y + bow * (0.1 - x**2)], 1)

    return [Part([bean(1, 0)], 1.15), Part([bean(0.9, 0.045)], 0.72), Part([bean(0.78, 0.09)], 0.88)]


TOOLS: dict[str, tuple[Callable[[Rng], list[Part]], float]] = {
    "scissors": (scissors, 1.0),
    "needle holder": (needle_holder, 1.1),
    "clamp": (clamp, 1.05),
    "forceps": (forceps, 0.95),
    "scalpel": (scalpel, 0.9),
    "syringe": (syringe, 1.0),
    "gauze": (gauze, 0.9),
    "kidney dish": (kidney_dish, 0.75),
}
"""How a tool is drawn, and how long it is beside the others."""

SPREAD_OUT = ("kidney dish", "gauze")
"""What lies below everything else."""


def _limb(path: Sequence[tuple[float, float]], widths: Sequence[float]) -> Points:
    """The outline of a stroke along `path`; its width is given at each point."""
    line, half = np.array(path, float), np.array(widths)[:, None] / 2
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1, 1) * half
    return np.concatenate([line + across, (line - across)[::-1]])


def _ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Points:
    angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    return _rotate(np.stack([np.cos(angles), np.sin(angles)], 1) * radii, turn) + centre


def _ring(
    centre: tuple[float, float], radii: tuple[float, float], thickness: float, turn: float = 0.0
) -> list[Points]:
    inner = (radii[0] - thickness, radii[1] - thickness)
    return [_ellipse(centre, radii, turn), _ellipse(centre, inner, turn)]


def _mirrored(parts: list[Part]) -> list[Part]:
    return [Part([contour * (1, -1) for contour in part.contours], part.tone) for part in parts]


def _turned(parts: list[Part], angle: float, pivot_x: float) -> list[Part]:
    pivot = np.array((pivot_x, 0.0))
    return [Part([_rotate(c - pivot, angle) + pivot for c in part.contours], part.tone) for part in parts]


def _rotate(points: Points, angle: float) -> Points:
    cos, sin = math.cos(angle), math.sin(angle)
    rotated: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return rotated
