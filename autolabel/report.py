"""One self-contained HTML page of what a run did: the counts first, then the delivered frames with their overlays."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from PIL import Image, ImageOps

from autolabel.core.assemble import Placement
from autolabel.core.geometry import BoolArray, mask_to_frame
from autolabel.core.outlines import polygon_from_mask, rasterise, rotated_box_from_mask
from autolabel.core.rows import REASON_TEXT, OntologyClass, Project, Reason
from autolabel.protocols import RGB
from autolabel.sync import Sample

MAX_SIDE_PX = 640
MASK_OPACITY = 0.45

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>autolabel {{ summary.run }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1.2rem;
       color: #1c2127; background: #fafbfc }
h1 { font-size: 1.35rem; margin: 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .5rem } .dim { color: #667 }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; font-weight: normal }
td:first-child { text-align: right; font-variant-numeric: tabular-nums } th { color: #667 }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 1rem;
          align-items: start }
figure { margin: 0; background: #fff; border: 1px solid #dde2e8; border-radius: 6px; overflow: hidden }
figure img { width: 100%; display: block; aspect-ratio: 4 / 3; object-fit: contain; background: #15181c }
figcaption { padding: .5rem .7rem; font-size: .85rem; overflow-wrap: anywhere }
.chip { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .35em }
code { background: #eef1f4; padding: .05rem .3rem; border-radius: 3px }
</style></head><body>
<h1>{{ title }}</h1>
<p class="dim">Run <code>{{ summary.run }}</code> · recipe <code>{{ summary.recipe[:8] }}</code> · destination
{{ summary.destination }} · confidences are the detector's class scores, <b>uncalibrated</b></p>
<h2>{{ summary.total }} label rows</h2>
<table>{% for count, what in rows %}<tr><td>{{ count }}</td><td>{{ what }}</td></tr>{% endfor %}</table>
<h2>{{ objects | sum(attribute=0) }} objects written</h2>
<table>{% for count, name, color in objects %}
<tr><td>{{ count }}</td><td><span class="chip" style="background: {{ color }}"></span>{{ name }}</td></tr>
{% endfor %}</table>
<h2>{{ frames | length }} frames, least certain first</h2>
<div class="frames">{% for frame in frames %}
<figure><img alt="{{ frame.title }}" src="data:image/jpeg;base64,{{ frame.jpeg }}">
<figcaption>{{ frame.title }}<br><span class="dim">{{ frame.caption }}</span></figcaption></figure>
{% endfor %}</div>
</body></html>
"""
)


def write_report(path: Path, project: Project, summary: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Draw and write the page, readable by its owner alone: it shows people's pictures.

    `summary` is what `sync.Run.summary` gives.
    """
    by_hash = {item.feature_hash: item for item in project.classes}
    objects = [(count, by_hash[key].name, by_hash[key].color) for key, count in summary["objects"].items()]
    html = _PAGE.render(
        title=project.title,
        summary=summary,
        rows=row_lines(summary),
        objects=sorted(objects, reverse=True),
        frames=[_frame(sample, by_hash) for sample in sorted(samples, key=_least_certain)],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(html, encoding="utf-8")


def row_lines(summary: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(rows, what became of them) in words; the rows add up to the project's total."""
    lines = [
        (summary["labelled"], "labelled by this run"),
        (summary["empty"], "nothing found, nothing written"),
        (summary["done_before"], "done by earlier runs"),
        *((count, f"left alone: {REASON_TEXT[Reason(why)]}") for why, count in summary["left_alone"].items()),
        *((count, f"set aside: {REASON_TEXT[Reason(why)]}") for why, count in summary["set_aside"].items()),
        (summary["pending"], "wait for the next run"),
    ]
    return [(count, text) for count, text in lines if count]


def _least_certain(sample: Sample) -> float:
    """Frames without objects come last: there is nothing on them to be wrong about."""
    scores = [place.detection.score for item in sample.instances for place in item.placements]
    return min(scores, default=2.0)


def _frame(sample: Sample, classes: Mapping[str, OntologyClass]) -> dict[str, str]:
    places = [(classes[item.feature_hash], place) for item in sample.instances for place in item.placements]
    names = ", ".join(f"{cls.name} {place.detection.score:.2f}" for cls, place in places)
    picture = draw(_picture(sample), places)
    ok, jpeg = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    assert ok
    return {
        "title": sample.row.title,
        "caption": names or "nothing found",
        "jpeg": base64.b64encode(jpeg.tobytes()).decode(),
    }


def _picture(sample: Sample) -> RGB:
    """The spooled file, upright as it was labelled (a file that could be labelled can be opened)."""
    with Image.open(sample.path) as image:
        turned = ImageOps.exif_transpose(image)
        upright = turned if turned.size == (sample.row.width_px, sample.row.height_px) else image
        return np.asarray(upright.convert("RGB"))


def draw(picture: RGB, places: Sequence[tuple[OntologyClass, Placement]]) -> RGB:
    """Overlay masks, boxes and confidences in the ontology's colours, shrunk to MAX_SIDE_PX."""
    height, width = picture.shape[:2]
    canvas = picture.copy()
    for cls, place in places:
        if (inside := _area(cls, place, width, height)) is not None:
            tint = np.array(_rgb(cls.color), np.float32)
            canvas[inside] = ((1 - MASK_OPACITY) * canvas[inside] + MASK_OPACITY * tint).astype(np.uint8)
            outline, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, outline, -1, (255, 255, 255), 1, cv2.LINE_AA)
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    canvas = np.ascontiguousarray(
        cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
    for cls, place in places:
        _draw_box(canvas, cls, place, scale)
    return canvas


def _area(cls: OntologyClass, place: Placement, width_px: int, height_px: int) -> BoolArray | None:
    """The pixels that an object covers as it was sent; None for boxes."""
    mask = place.detection.mask
    if mask is None or cls.shape not in ("bitmask", "polygon"):
        return None
    if cls.shape == "bitmask":
        return mask_to_frame(mask, width_px, height_px)
    return rasterise(polygon_from_mask(mask), width_px, height_px)


def _draw_box(canvas: RGB, cls: OntologyClass, place: Placement, scale: float) -> None:
    found = place.detection
    x0, y0, x1, y1 = (round(value * scale) for value in found.box_xyxy_px)
    color = _rgb(cls.color)
    if cls.shape == "rotatable_bounding_box" and found.mask is not None:
        corners = rotated_box_from_mask(found.mask, place.width_px, place.height_px).corners_xy_px * scale
        cv2.polylines(canvas, [corners.round().astype(np.int32)], True, color, 2, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x0, y0), (x1, y1), color, 2, cv2.LINE_AA)
    text = f"{cls.name} {found.score:.2f}"
    (text_width, text_height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    left = max(0, min(x0, canvas.shape[1] - text_width - 4))
    top = y0 - text_height - base - 2 if y0 > text_height + base + 2 else y0
    cv2.rectangle(canvas, (left, top), (left + text_width + 4, top + text_height + base + 2), color, -1)
    ink = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
    where = (left + 2, top + text_height + 1)
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, 1, cv2.LINE_AA)


def _rgb(color: str) -> tuple[int, int, int]:
    """`#D33115` -> (211, 49, 21)."""
    value = int(color.lstrip("#")[:6], 16)
    return value >> 16, value >> 8 & 255, value & 255
