"""Synthetic frames of coloured shapes with exact masks, each drawn from its seed alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 80, 220),
    "yellow": (235, 215, 40),
    "orange": (245, 140, 30),
    "purple": (140, 60, 190),
    "cyan": (50, 205, 215),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
    "pink": (245, 130, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "crescent")
SUBPIXEL_BITS = 4
LEAST_VISIBLE_PX = 20
LEAST_CONTRAST = 38


@dataclass(frozen=True)
class Scene:
    """A frame and what can be seen in it: class name ("red circle") and visible mask, H x W."""

    rgb: Rgb
    objects: list[tuple[str, Mask]]


@dataclass(frozen=True)
class Placed:
    x: float
    y: float
    radius: float


def draw(seed: int, width_px: int, height_px: int, names: Sequence[str]) -> Scene:
    """One to six shapes, each named by a draw from `names`; later ones hide earlier ones."""
    rng = np.random.default_rng(seed)
    canvas = _background(rng, width_px, height_px)
    placed: list[Placed] = []
    objects: list[tuple[str, Mask]] = []
    for _ in range(rng.integers(1, 7)):
        spot = _free_spot(rng, width_px, height_px, placed)
        name = names[int(rng.integers(len(names)))]
        if spot is None or (inside := _paint(rng, canvas, name, spot)) is None:
            continue
        placed.append(spot)
        objects = [(other, mask & ~inside) for other, mask in objects]
        objects.append((name, inside))
    if rng.random() < 0.3:
        canvas = _blurred(canvas)
    visible = [(name, mask) for name, mask in objects if mask.sum() >= LEAST_VISIBLE_PX]
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), visible)


def _free_spot(rng: np.random.Generator, width_px: int, height_px: int, placed: list[Placed]) -> Placed | None:
    """Somewhere that overlaps what is there at most a little, if a few tries find it."""
    for _ in range(12):
        radius = rng.uniform(0.06, 0.24) * min(width_px, height_px)
        x = rng.uniform(radius * 0.8, width_px - radius * 0.8)
        y = rng.uniform(radius * 0.8, height_px - radius * 0.8)
        apart = (math.hypot(x - p.x, y - p.y) > 0.85 * (radius + p.radius) for p in placed)
        if all(apart):
            return Placed(x, y, radius)
    return None


def _paint(rng: np.random.Generator, canvas: Plane, name: str, spot: Placed) -> Mask | None:
    """Paint a shape; None, and nothing painted, where it would hardly be seen."""
    colour_name, shape = name.split()
    base = np.array(COLOURS[colour_name], np.float32) * rng.uniform(0.82, 1.08)
    colour = np.clip(base + rng.normal(0, 7, 3), 0, 255)
    cover = _coverage(canvas.shape[:2], shape, spot, rng.uniform(0, 360))
    inside = cover > 127
    if inside.sum() < LEAST_VISIBLE_PX:
        return None
    if np.abs(canvas[inside].mean(0) - colour).max() < LEAST_CONTRAST:
        return None
    height = canvas.shape[0]
    shade = 1 + rng.uniform(-0.12, 0.12) * np.linspace(-1, 1, height, dtype=np.float32)
    rows = slice(max(0, int(spot.y - spot.radius) - 2), int(spot.y + spot.radius) + 3)
    columns = slice(max(0, int(spot.x - spot.radius) - 2), int(spot.x + spot.radius) + 3)
    alpha = cover[rows, columns, None].astype(np.float32) / 255
    patch = canvas[rows, columns]
    patch += alpha * (colour * shade[rows, None, None] - patch)
    return inside


def _coverage(size: tuple[int, ...], shape: str, spot: Placed, turn_deg: float) -> Rgb:
    """How much of each pixel the shape covers, 0 to 255."""
    import cv2  # slow to import, and only drawing needs it

    cover = np.zeros(size, np.uint8)
    turn = math.radians(turn_deg)

    def disc(x: float, y: float, radius: float, value: int) -> None:
        centre = (_fixed(x), _fixed(y))
        cv2.circle(cover, centre, _fixed(radius), value, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    if shape in {"circle", "ring", "crescent"}:
        disc(spot.x, spot.y, spot.radius, 255)
        if shape == "ring":
            disc(spot.x, spot.y, spot.radius * 0.55, 0)
        if shape == "crescent":
            x, y = spot.x + 0.5 * spot.radius * math.cos(turn), spot.y + 0.5 * spot.radius * math.sin(turn)
            disc(x, y, spot.radius * 0.8, 0)
        return cover
    corners = _corners(shape, turn) * spot.radius + (spot.x, spot.y)
    points = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return cover


def _fixed(value: float) -> int:
    return int(value * (1 << SUBPIXEL_BITS))


def _corners(shape: str, turn: float) -> NDArray[np.float64]:
    """The corners of a shape of radius 1 about the origin, turned by `turn` radians."""
    if shape == "diamond":
        return _turned([(0, -1), (0.58, 0), (0, 1), (-0.58, 0)], turn * 0.25)
    if shape == "cross":
        k = 0.33
        arm = [(-k, -1.0), (k, -1.0), (k, -k)]
        turns = [_turned(arm, quarter * math.pi / 2) for quarter in range(4)]
        return _turned(np.concatenate(turns), turn)
    points, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[shape]
    angles = turn + np.arange(points) * 2 * math.pi / points
    radii = np.where(np.arange(points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _turned(points: Sequence[tuple[float, float]] | NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    cos, sin = math.cos(turn), math.sin(turn)
    turned: NDArray[np.float64] = np.asarray(points) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _background(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    """Flat, a gradient, soft blotches, or grey with lines; and a little noise on each."""
    kinds = (_flat, _gradient, _blotches, _lines)
    plane = kinds[rng.integers(len(kinds))](rng, width_px, height_px)
    noise = rng.normal(0, rng.uniform(0, 8), (height_px, width_px, 1))
    return np.clip(plane + noise, 0, 255).astype(np.float32)


def _flat(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    return np.full((height_px, width_px, 3), rng.uniform(40, 215, 3), np.float32)


def _gradient(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    start, end = rng.uniform(40, 215, (2, 3))
    across = rng.random() < 0.5
    ramp = np.linspace(0, 1, width_px if across else height_px, dtype=np.float32)
    colours = (start + (end - start) * ramp[:, None]).astype(np.float32)
    return np.broadcast_to(colours[None] if across else colours[:, None], (height_px, width_px, 3)).copy()


def _blotches(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    import cv2

    grid = rng.uniform(40, 215, (rng.integers(3, 9), rng.integers(3, 9), 3)).astype(np.float32)
    mean = grid.mean((0, 1))
    soft = (mean + (grid - mean) * rng.uniform(0.2, 0.8)).astype(np.float32)
    return np.asarray(cv2.resize(soft, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.float32)


def _lines(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    import cv2

    plane = np.full((height_px, width_px, 3), rng.uniform(90, 170), np.float32)
    for _ in range(rng.integers(2, 12)):
        ends = rng.integers(0, (width_px, height_px), (2, 2)).tolist()
        colour = rng.uniform(50, 205, 3).tolist()
        cv2.line(plane, ends[0], ends[1], colour, int(rng.integers(1, 5)))
    return plane


def _blurred(canvas: Plane) -> Plane:
    import cv2

    return np.asarray(cv2.GaussianBlur(canvas, (3, 3), 0), np.float32)
