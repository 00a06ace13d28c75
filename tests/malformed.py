"""Files that no camera writes and answers that no model gives, from a seed: number k of a seed is always the same."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autolabel.core.detections import Detections, Mask
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import PromptPlan
from autolabel.protocols import RGB
from videos import HEIGHT_PX, WIDTH_PX, film

SIDE_PX = 96
FORMATS: dict[str, dict[str, str]] = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "AVIF": {},
}
FRAMES = 24
MP4_BOXES = (b"tkhd", b"avc1", b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"elst", b"mdhd", b"mvhd", b"moov")


@dataclass(frozen=True)
class Malformed:
    """A file's bytes, what became of them, and what the platform would say of it: (width, height), frames or None."""

    what: str
    body: bytes
    size_px: tuple[int, int]
    video_frames: int | None = None


def media(seed: int, amount: int, folder: Path) -> Iterator[Malformed]:
    """Damaged files of every format, rubbish, and bombs; always the same. `folder` is for scratch files."""
    chance = random.Random(seed)
    good = _good_files(folder)
    damages = (_cut, _flip, _scramble)
    movie = next(file.body for file in good if file.what == ".mp4")
    bombs = (_large_png, _png_of_lies, _gif_frames, _tiff, _webp, _jpeg, partial(_mp4, movie))
    for number in range(amount):
        if number % 5 == 4:
            yield bombs[number // 5 % len(bombs)](chance)
        else:
            yield chance.choice(damages)(chance, good[number % len(good)])


def _good_files(folder: Path) -> list[Malformed]:
    noise = Image.effect_noise((SIDE_PX, SIDE_PX), 60).convert("RGB")
    stills = [
        Malformed(name, _saved(noise, name, **options), (SIDE_PX, SIDE_PX)) for name, options in FORMATS.items()
    ]
    films = [film(folder / name, FRAMES) for name in ("a.mp4", "a.mkv", "a.avi")]
    return stills + [Malformed(path.suffix, path.read_bytes(), (WIDTH_PX, HEIGHT_PX), FRAMES) for path in films]


def _saved(image: Image.Image, name: str, **options: str) -> bytes:
    body = io.BytesIO()
    image.save(body, name, **options)
    return body.getvalue()


def _like(good: Malformed, how: str, body: bytes) -> Malformed:
    return Malformed(f"{good.what} {how}", body, good.size_px, good.video_frames)


def _cut(chance: random.Random, good: Malformed) -> Malformed:
    return _like(good, "cut", good.body[: chance.randrange(len(good.body))])


def _flip(chance: random.Random, good: Malformed) -> Malformed:
    """Some bytes changed: anywhere, or among the first, where formats keep what they count on."""
    body = bytearray(good.body)
    reach = chance.choice((len(body), min(512, len(body))))
    for _ in range(chance.randint(1, 20)):
        body[chance.randrange(reach)] = chance.randrange(256)
    return _like(good, "flipped", bytes(body))


def _scramble(chance: random.Random, good: Malformed) -> Malformed:
    """Rubbish behind as much of the file as tells its format, or nothing but rubbish."""
    kept = chance.choice((0, 16, 64, len(good.body) // 2))
    return _like(good, "scrambled", good.body[:kept] + chance.randbytes(chance.randint(0, 4000)))


def _png(width: int, height: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def _large_png(chance: random.Random) -> Malformed:
    """Kilobytes that become gigabytes; the platform says so too. The smallest is within the limit."""
    side = chance.choice((1000, 12_000, 60_000))
    return Malformed("PNG bomb", _png(side, side, _zeros(4)), (side, side))


def _png_of_lies(chance: random.Random) -> Malformed:
    """More rows than its size has, or a profile and texts that unpack to a hundred times the picture."""
    rows = zlib.compress(bytes(SIDE_PX * (SIDE_PX + 1)))
    profile = (b"iCCP", b"x\0\0" + _zeros(64))
    text = (b"zTXt", b"Comment\0\0" + _zeros(64))
    chunks = chance.choice(((profile,), (text,), (text,) * 40, ()))
    return Malformed(
        "PNG of lies", _png(SIDE_PX, SIDE_PX, rows if chunks else _zeros(64), *chunks), (SIDE_PX, SIDE_PX)
    )


def _gif_frames(chance: random.Random) -> Malformed:
    """A picture, and ten thousand more behind it."""
    one = _saved(Image.new("P", (SIDE_PX, SIDE_PX)), "GIF")
    start = one.index(b",", 13 + 3)  # the image block behind header and palette
    return Malformed("GIF frames", one[:-1] + one[start:-1] * chance.randint(1000, 10_000) + b";", (SIDE_PX, SIDE_PX))


def _tiff(chance: random.Random) -> Malformed:
    """Tags that count on more than there is: sizes, strips, a directory that is its own next."""
    body = bytearray(_saved(Image.new("RGB", (SIDE_PX, SIDE_PX)), "TIFF", compression="tiff_deflate"))
    (start,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, start)
    tag = start + 2 + 12 * chance.randrange(count)
    struct.pack_into("<II", body, tag + 4, *chance.choice(((1, 2**31), (2**31, 8), (2**32 - 1, start))))
    if chance.random() < 0.3:
        struct.pack_into("<I", body, start + 2 + 12 * count, start)
    return Malformed("TIFF tags", bytes(body), (SIDE_PX, SIDE_PX))


def _webp(chance: random.Random) -> Malformed:
    """A canvas of 16383 pixels a side, or animation flags, over a small picture."""
    side = chance.choice((16_383, SIDE_PX))
    extended = struct.pack("<I", chance.randrange(256)) + (side - 1).to_bytes(3, "little") * 2
    inner = _saved(Image.new("RGB", (SIDE_PX, SIDE_PX)), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", len(extended)) + extended + inner
    return Malformed("WebP canvas", b"RIFF" + struct.pack("<I", len(body)) + body, (side, side))


def _jpeg(chance: random.Random) -> Malformed:
    """A header of 65535 pixels a side over a few bytes; sometimes the platform believes the header."""
    body = bytearray(_saved(Image.new("RGB", (SIDE_PX, SIDE_PX)), "JPEG", progressive=chance.random() < 0.5))
    start = max(body.find(b"\xff\xc0"), body.find(b"\xff\xc2"))
    struct.pack_into(">HH", body, start + 5, 65_535, 65_535)
    return Malformed("JPEG header", bytes(body), chance.choice(((65_535, 65_535), (SIDE_PX, SIDE_PX))))


def _mp4(movie: bytes, chance: random.Random) -> Malformed:
    """A size, a count or an offset of its header blown up."""
    body = bytearray(movie)
    start = body.find(chance.choice(MP4_BOXES))
    place = start + 4 + 4 * chance.randrange(8) if chance.random() < 0.8 else start - 4
    struct.pack_into(">I", body, place, chance.choice((2**31, 2**32 - 1, 2**28, 65_535, 0)))
    return Malformed("MP4 header", bytes(body), (WIDTH_PX, HEIGHT_PX), FRAMES)


class BadDetector:
    """A TextDetector whose answers are sound but for one thing: `WRONGS[number]`, and so on round."""

    def __init__(self, seed: int, number: int) -> None:
        self._chance = np.random.default_rng([seed, number])
        self.what, self._spoil = WRONGS[number % len(WRONGS)]

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        return [self._on(image, len(plan.prompts)) for image in images]

    def _on(self, image: RGB, classes: int) -> Detections:
        count = 100_000 if self.what == "100 000 objects" else int(self._chance.integers(1, 40))
        height, width, _ = image.shape
        corners = np.sort(self._chance.uniform(0, 1, (count, 2, 2)), axis=1) * (width, height)
        scores = self._chance.uniform(0, 1, (count, classes))
        boxes, scores = self._spoil(corners.reshape(count, 4), scores)
        return Detections(boxes.astype(np.float32), scores.astype(np.float32))


class BadSegmenter:
    """A BoxSegmenter with one thing wrong: `MASK_WRONGS[number]`, and so on round."""

    def __init__(self, number: int) -> None:
        self.what = MASK_WRONGS[number % len(MASK_WRONGS)]

    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        few = 1 if self.what == "too few masks" else 0
        return [
            [self._mask(box, image) for box in boxes[few:]]
            for image, boxes in zip(images, boxes_xyxy_px, strict=True)
        ]

    def _mask(self, box_xyxy_px: NDArray[np.float32], image: RGB) -> Mask:
        width = image.shape[1]
        left, top = np.floor(box_xyxy_px[:2]).astype(int).tolist()
        right, bottom = np.ceil(box_xyxy_px[2:]).astype(int).tolist()
        if self.what == "mask out of the frame":
            left, right = left + width, right + width
        elif self.what == "mask left of the frame":
            left, right = left - width, right - width
        pixels = np.full((bottom - top, right - left), self.what != "empty mask")
        return mask_from_window(
            pixels, left, top, {"mask score NaN": np.nan, "mask score 2": 2.0}.get(self.what, 0.9)
        )


Spoil = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def _first(values: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    changed = values.copy()
    changed[0, 0] = value
    return changed


WRONGS: tuple[tuple[str, Spoil], ...] = (
    ("nothing", lambda boxes, scores: (boxes, scores)),
    ("box NaN", lambda boxes, scores: (_first(boxes, np.nan), scores)),
    ("box infinite", lambda boxes, scores: (_first(boxes, -np.inf), scores)),
    ("score NaN", lambda boxes, scores: (boxes, _first(scores, np.nan))),
    ("score infinite", lambda boxes, scores: (boxes, _first(scores, np.inf))),
    ("score 2", lambda boxes, scores: (boxes, _first(scores, 2.0))),
    ("out of the frame", lambda boxes, scores: (boxes + 1e6, scores)),
    ("far beyond the frame", lambda boxes, scores: (boxes * (-1e30, -1e30, 1e30, 1e30), scores)),
    ("zero area", lambda boxes, scores: (boxes[:, [0, 1, 0, 1]], scores)),
    ("zero width", lambda boxes, scores: (boxes[:, [0, 1, 0, 3]], scores)),
    ("inside out", lambda boxes, scores: (boxes[:, [2, 3, 0, 1]], scores)),
    ("100 000 objects", lambda boxes, scores: (boxes, scores)),
    ("unknown class", lambda boxes, scores: (boxes, np.hstack([scores, scores]))),
    ("no class", lambda boxes, scores: (boxes, scores[:, :0])),
    ("too few classes", lambda boxes, scores: (boxes, scores[:, :1])),
    ("duplicates", lambda boxes, scores: (np.repeat(boxes, 50, axis=0), np.repeat(scores, 50, axis=0))),
    ("all alike", lambda boxes, scores: (boxes * 0 + boxes[:1], scores * 0 + 1)),
    ("boxes without scores", lambda boxes, scores: (boxes, scores[1:])),
    ("three numbers a box", lambda boxes, scores: (boxes[:, :3], scores)),
)
MASK_WRONGS = (
    "nothing",
    "mask out of the frame",
    "mask left of the frame",
    "mask score NaN",
    "mask score 2",
    "empty mask",
    "too few masks",
)
