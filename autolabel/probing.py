"""What a run would cost: some frames of its first rows are timed before anything is written."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentInferenceError, PermanentMediaError, TransientError
from autolabel.plan import Plan
from autolabel.protocols import ClipFailure, Inference, Source
from autolabel.recipe import Recipe

PROBE_ROWS = 3
PROBE_FRAMES = 4


def seconds_per_frame(plan: Plan, recipe: Recipe, source: Source, inference: Inference, spool: Path) -> float | None:
    """Time some frames of a few short rows through download and inference, after a warm-up. None when any fail."""
    rows = sorted((row for row in plan.to_infer if row.frames), key=lambda row: row.frames)[:PROBE_ROWS]
    if not rows:
        return 0.0
    try:
        probe = partial(_probe, recipe, source, inference, spool)
        probe(rows[0])
        started = time.perf_counter()
        frames = sum(probe(row) for row in rows[1:] or rows)
    except (PermanentMediaError, PermanentInferenceError, TransientError):
        return None
    return (time.perf_counter() - started) / frames if frames else None


def _probe(recipe: Recipe, source: Source, inference: Inference, spool: Path, row: LabelRow) -> int:
    """Infer a row's first frames, as far apart as a run takes them, and say how many. Raises what the answer says."""
    step = max(1, row.frames // recipe.frame_count(row)) if row.is_video else 1
    spooled = source.download(row, spool)
    try:
        clips = [
            replace(clip, frame_indices=clip.frame_indices[::step][:PROBE_FRAMES]) for clip in spooled[:PROBE_FRAMES]
        ]
        for answer in inference.ask(clips)():
            if isinstance(answer, ClipFailure):
                raise PermanentMediaError(answer.reason, answer.message)
    finally:
        for clip in spooled:
            clip.path.unlink()
    return sum(len(clip.frame_indices) for clip in clips)
