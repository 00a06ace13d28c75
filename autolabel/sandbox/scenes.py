"""Frames of surgical tools on cloth with exact masks, each drawn from its seed alone; tools move with time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolabel.sandbox.tools import SPREAD_OUT, TOOLS, Part, Points

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator


@dataclass(frozen=True)
class Material:
    """`colour` as RGB; `shine`: how strongly light is thrown back."""

    colour: tuple[int, int, int]
    shine: float


MATERIALS = {
    "steel": Material((116, 122, 132), 0.9),
    "gold": Material((206, 158, 52), 0.8),
    "black": Material((30, 30, 33), 0.35),
    "white": Material((232, 231, 226), 0.2),
    "blue": Material((38, 84, 205), 0.4),
    "green": Material((30, 150, 70), 0.4),
    "red": Material((205, 38, 42), 0.4),
    "purple": Material((136, 58, 180), 0.5),
}
CLOTHS = {
    "drape blue": (82, 128, 168),
    "drape green": (92, 146, 124),
    "white": (212, 212, 206),
    "grey": (122, 126, 130),
    "navy": (44, 60, 92),
    "sand": (188, 172, 146),
}
SUBPIXEL_BITS = 4
LEAST_VISIBLE_PX = 30
LEAST_CONTRAST = 45
STILL_SHARE = 0.25


class Seen(NamedTuple):
    """What can be seen of one tool: class name ("steel scissors"), visible mask (H x W), and an id that stays its own
    in every frame of a scene."""

    name: str
    mask: Mask
    id: int


@dataclass(frozen=True)
class Scene:
    """A frame and the tools in it."""

    rgb: Rgb
    objects: list[Seen]


@dataclass(frozen=True)
class Tool:
    """A tool of a scene and its way: place and speed in pixels, from the frame's corner; angles in radians."""

    name: str
    parts: list[Part]
    colour: Plane
    shine: float
    length_px: float
    start: tuple[float, float]
    speed: tuple[float, float]
    sway_px: float
    angle: float
    spin: float

    def spot(self, time_s: float) -> tuple[float, float, float]:
        """(x, y, angle) at that time."""
        sway = self.sway_px * math.sin(0.9 * time_s)
        x, y = self.start[0] + self.speed[0] * time_s + sway, self.start[1] + self.speed[1] * time_s - 0.6 * sway
        return x, y, self.angle + self.spin * time_s


@dataclass(frozen=True)
class Light:
    """Where light comes from (unit vector), and how dark and far its shadows are."""

    x: float
    y: float
    shadow: float
    reach_px: float


def draw(seed: int, width_px: int, height_px: int, names: Sequence[str], time_s: float = 0.0) -> Scene:
    """One to six tools, each named by a draw from `names`, later ones hiding earlier ones; with time more come in.

    The cloth and the light stay as they are, the tools drift and turn, enter and leave; `time_s=0` is the still.
    """
    rng = np.random.default_rng(seed)
    canvas, cloth = _cloth(rng, width_px, height_px)
    bearing = rng.uniform(0, 2 * math.pi)
    side_px = min(width_px, height_px)
    reach_px = side_px * rng.uniform(0.005, 0.02)
    light = Light(math.cos(bearing), math.sin(bearing), rng.uniform(0.15, 0.5), reach_px)
    glare = _glare(rng, width_px, height_px) if rng.random() < 0.35 else None
    blur, noise = (rng.uniform(0.4, 1.1) if rng.random() < 0.4 else 0.0), rng.uniform(1, 8)
    objects: list[Seen] = []
    for key, tool in _laid_out(rng, width_px, height_px, names, cloth):
        inside = _paint(canvas, tool, tool.spot(time_s), light)
        objects = [Seen(name, mask & ~inside, other) for name, mask, other in objects]
        objects.append(Seen(tool.name, inside, key))
    finished = _photographed(canvas, glare, blur, noise, np.random.default_rng((seed, round(time_s * 1000))))
    return Scene(finished, [seen for seen in objects if np.count_nonzero(seen.mask) >= LEAST_VISIBLE_PX])


def _laid_out(rng: Rng, width_px: int, height_px: int, names: Sequence[str], cloth: Plane) -> list[tuple[int, Tool]]:
    """Tools by their ids, lowest first: some in the frame from the start, some that will come in."""
    present, coming = int(rng.integers(1, 7)), int(rng.integers(1, 4))
    spots: list[tuple[float, float, float]] = []
    tools: list[tuple[int, Tool]] = []
    for key in range(present + coming):
        name = names[int(rng.integers(len(names)))]
        tool_rng = rng.spawn(1)[0]
        spot = _free_spot(rng, width_px, height_px, spots) if key < present else _outside(rng, width_px, height_px)
        if spot is not None and (tool := _tool(tool_rng, name, spot, (width_px, height_px), cloth)) is not None:
            tools.append((key, tool if key < present else _sent_in(tool_rng, tool, width_px, height_px)))
            spots.append(spot)
    return sorted(tools, key=lambda item: item[1].name.partition(" ")[2] not in SPREAD_OUT)


def _free_spot(
    rng: Rng, width_px: int, height_px: int, taken: list[tuple[float, float, float]]
) -> tuple[float, float, float] | None:
    """(x, y, length) whose middle keeps off the others' middles, if a few tries find one; ends may cross."""
    for _ in range(16):
        length = rng.uniform(0.4, 0.85) * min(width_px, height_px)
        x = rng.uniform(length * 0.32, width_px - length * 0.32)
        y = rng.uniform(length * 0.32, height_px - length * 0.32)
        if all(math.hypot(x - other[0], y - other[1]) > 0.23 * (length + other[2]) for other in taken):
            return x, y, length
    return None


def _outside(rng: Rng, width_px: int, height_px: int) -> tuple[float, float, float]:
    """A spot beyond the frame's border."""
    length = rng.uniform(0.4, 0.85) * min(width_px, height_px)
    bearing, away = rng.uniform(0, 2 * math.pi), 0.5 * math.hypot(width_px, height_px) + 0.75 * length
    return width_px / 2 + away * math.cos(bearing), height_px / 2 + away * math.sin(bearing), length


def _tool(
    rng: Rng, name: str, spot: tuple[float, float, float], size_px: tuple[int, int], cloth: Plane
) -> Tool | None:
    """The tool with that name; None where it would hardly be seen on the cloth."""
    material_name, _, kind = name.partition(" ")
    material = MATERIALS[material_name]
    base = np.array(material.colour, np.float32)
    colour = np.clip(base * rng.uniform(0.85, 1.1) + rng.normal(0, 6, 3), 8, 250).astype(np.float32)
    shape, scale = TOOLS[kind]
    x, y, length_px = spot
    pace, heading = rng.uniform(0.02, 0.1) * min(size_px), rng.uniform(0, 2 * math.pi)
    if rng.random() < STILL_SHARE:
        pace = 0.0
    tool = Tool(
        name,
        parts=shape(rng),
        colour=colour,
        shine=material.shine * rng.uniform(0.7, 1.2),
        length_px=length_px * scale,
        start=(x, y),
        speed=(pace * math.cos(heading), pace * math.sin(heading)),
        sway_px=pace * rng.uniform(0, 0.6),
        angle=rng.uniform(0, 2 * math.pi),
        spin=0.0 if pace == 0 else rng.uniform(-0.35, 0.35),
    )
    return tool if np.abs(cloth - colour).max() >= LEAST_CONTRAST else None


def _sent_in(rng: Rng, tool: Tool, width_px: int, height_px: int) -> Tool:
    """The same tool on its way to somewhere in the frame's middle, where it is after 4 to 9 seconds."""
    seconds = rng.uniform(4, 9)
    to_x, to_y = rng.uniform(0.3, 0.7) * width_px, rng.uniform(0.3, 0.7) * height_px
    speed = ((to_x - tool.start[0]) / seconds, (to_y - tool.start[1]) / seconds)
    return Tool(**(vars(tool) | {"speed": speed, "sway_px": 0.0}))


def _paint(canvas: Plane, tool: Tool, spot: tuple[float, float, float], light: Light) -> Mask:
    """Paint a tool and its shadow onto the canvas; which pixels of the frame it covers."""
    import cv2  # slow to import, and only drawing needs it

    height, width = canvas.shape[:2]
    inside = np.zeros((height, width), np.bool_)
    margin = int(light.reach_px * 4) + 4
    placed = [Part([_placed(c, spot, tool.length_px) for c in part.contours], part.tone) for part in tool.parts]
    corners = np.concatenate([c for part in placed for c in part.contours])
    left, top = np.maximum(np.floor(corners.min(0)).astype(int) - margin, 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + margin, (width, height))
    if left >= right or top >= bottom:
        return inside
    cover = np.zeros((bottom - top, right - left), np.uint8)
    tone = np.zeros_like(cover)
    for part in placed:
        fixed = [np.round((c - (left, top)) * (1 << SUBPIXEL_BITS)).astype(np.int32) for c in part.contours]
        cv2.fillPoly(cover, fixed, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.fillPoly(tone, fixed, round(part.tone * 128), cv2.LINE_AA, SUBPIXEL_BITS)
    patch = canvas[top:bottom, left:right]
    _cast_shadow(patch, cover, light)
    lit = _lit(tone, tool, light)
    alpha = (cover * np.float32(1 / 255))[..., None]
    patch += alpha * (lit - patch)
    inside[top:bottom, left:right] = cover > 127
    return inside


def _placed(contour: Points, spot: tuple[float, float, float], length_px: float) -> Points:
    x, y, angle = spot
    cos, sin = math.cos(angle) * length_px, math.sin(angle) * length_px
    placed: Points = contour @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return placed


def _cast_shadow(patch: Plane, cover: Rgb, light: Light) -> None:
    import cv2

    height, width = cover.shape
    move = np.array([[1, 0, -light.x * light.reach_px * 1.5], [0, 1, -light.y * light.reach_px * 1.5]], np.float32)
    moved = cv2.warpAffine(cover, move, (width, height))
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.8, light.reach_px * 0.7))
    patch *= (1 - soft * np.float32(light.shadow / 255))[..., None]


def _lit(tone: Rgb, tool: Tool, light: Light) -> Plane:
    """H x W x 3: the tool's colour, brighter where its rounded edges face the light, with a glint there."""
    import cv2

    round_px = max(0.7, tool.length_px * 0.012)
    soft = cv2.GaussianBlur(tone.astype(np.float32), (0, 0), round_px)
    across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=-light.x * round_px / 256)
    down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=-light.y * round_px / 256)
    slope = cv2.add(across, down)
    shade = tone * np.float32(1 / 128) * (1 + 0.45 * np.clip(slope, -1, 1))
    glint = np.clip(slope - 0.25, 0, 1) * np.float32(230 * tool.shine)
    lit: Plane = shade[..., None] * tool.colour + glint[..., None]
    return lit


def _cloth(rng: Rng, width_px: int, height_px: int) -> tuple[Plane, Plane]:
    """A piece of cloth with folds, weave and stains, and its own colour (RGB)."""
    import cv2

    base = np.array(list(CLOTHS.values())[int(rng.integers(len(CLOTHS)))], np.float32)
    colour = np.clip(base * rng.uniform(0.8, 1.12) + rng.normal(0, 8, 3), 15, 235).astype(np.float32)
    small_w, small_h = width_px // 8 + 2, height_px // 8 + 2
    y, x = np.mgrid[0:small_h, 0:small_w].astype(np.float32) / min(small_w, small_h)
    folds = np.ones((small_h, small_w), np.float32)
    for _ in range(rng.integers(1, 5)):
        bearing, pitch, bow = rng.uniform(0, math.pi), rng.uniform(3, 14), rng.uniform(0, 0.25)
        along = x * math.cos(bearing) + y * math.sin(bearing) + bow * np.sin(3 * (x - y) + rng.uniform(0, 6))
        ridge = np.sin(pitch * along + rng.uniform(0, 6))
        folds += np.float32(rng.uniform(0.02, 0.09)) * (np.abs(ridge) - 0.6)
    ramp = np.float32(rng.uniform(-0.12, 0.12)) * (x - 0.6) + np.float32(rng.uniform(-0.12, 0.12)) * (y - 0.5)
    plane = colour * (folds + ramp)[..., None]
    for _ in range(rng.integers(0, 4)):
        _stain(rng, plane, x, y)
    cloth = cv2.resize(plane, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    pitch_px, depth = rng.uniform(2.5, 5), rng.uniform(0, 0.045)
    across = 1 + depth * np.sin(np.arange(width_px) * 2 * math.pi / pitch_px)
    down = 1 + depth * np.sin(np.arange(height_px) * 2 * math.pi / pitch_px)
    cloth *= across.astype(np.float32)[None, :, None]
    cloth *= down.astype(np.float32)[:, None, None]
    return cloth, colour


def _stain(rng: Rng, plane: Plane, x: Plane, y: Plane) -> None:
    """A wet or a brownish-red patch with a soft, uneven border."""
    tint = np.array((0.82, 0.82, 0.84) if rng.random() < 0.5 else (0.82, 0.6, 0.56), np.float32)
    centre_x, centre_y, radius = rng.uniform(0, x.max()), rng.uniform(0, y.max()), rng.uniform(0.03, 0.14)
    dx, dy = x - centre_x, y - centre_y
    around = np.arctan2(dy, dx)
    uneven = 1 + 0.2 * np.sin(2 * around + rng.uniform(0, 6)) + 0.06 * np.sin(5 * around + rng.uniform(0, 6))
    strength = np.clip(1.6 - np.hypot(dx, dy) / (radius * uneven), 0, 1)[..., None]
    plane *= 1 - strength * (1 - tint)


def _glare(rng: Rng, width_px: int, height_px: int) -> Plane:
    """Light thrown back by wet cloth and metal, H x W x 1: one to three soft bright spots."""
    import cv2

    small_w, small_h = width_px // 8 + 2, height_px // 8 + 2
    y, x = np.mgrid[0:small_h, 0:small_w].astype(np.float32) / min(small_w, small_h)
    glare = np.zeros((small_h, small_w), np.float32)
    for _ in range(rng.integers(1, 4)):
        dx, dy = (
            (x - rng.uniform(0, x.max())) / rng.uniform(0.04, 0.25),
            (y - rng.uniform(0, 1)) / rng.uniform(0.04, 0.2),
        )
        glare += np.float32(rng.uniform(25, 90)) * np.exp(-(dx**2) - dy**2)
    return np.asarray(cv2.resize(glare, (width_px, height_px)), np.float32)[..., None]


def _photographed(canvas: Plane, glare: Plane | None, blur: float, noise: float, rng: Rng) -> Rgb:
    import cv2

    if glare is not None:
        canvas += glare
    canvas += rng.standard_normal((*canvas.shape[:2], 1), np.float32) * np.float32(noise)
    rgb = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(rgb, (5, 5), blur), np.uint8) if blur else rgb
