"""Full-size models side by side: the public Grounded-SAM recipe, ours with `--reference`, ours. One run, one table.

On the CPU seconds are the process's own CPU seconds, on a GPU they are wall time.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from autolabel.core.detections import Mask
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.errors import AutolabelError, PermanentOutOfMemoryError
from autolabel.models import describe_device
from benching.agreement import Boxes, box_error_norm, distinct, mask_iou
from benching.contestants import Contestant, Job, contestants
from benching.footage import PROMPTS, as_files, as_film, drawn, grid
from benching.full_size import folder_of
from benching.meter import Meter, count_flops
from benching.pieces import pieces
from benching.speed_report import COMPILED, MODEL_STAGES, OURS, Agreement, Case, Figures, Report, publish

PAIRS = {
    "bundled": ("bundled:detector", "bundled:segmenter"),
    "tiny+b": ("gd-tiny", "sam-b"),
    "tiny+h": ("gd-tiny", "sam-h"),
    "base+h": ("gd-base", "sam-h"),
}
PIECE_ROUNDS = 7


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def gpu_cases() -> list[Case]:
    """Around one case of the main job, each axis by itself."""
    base = Case("tiny+b", 1920, 1080, 8, 8, "bf16", rounds=3)
    changed: list[dict[str, Any]] = [
        {},
        *({"batch": batch} for batch in (1, 2, 4, 16, 32)),
        *({"boxes": boxes} for boxes in (1, 32)),
        {"width_px": 3840, "height_px": 2160},
        {"precision": "fp32"},
        {"pair": "tiny+h"},
        {"pair": "base+h"},
        {"pair": "bundled"},
    ]
    return [replace(base, **change) for change in changed]


def cpu_cases() -> list[Case]:
    """The full-size pair at the detector's own size, where nothing is resized for it, and the bundled one."""
    return [
        Case("tiny+b", 1332, 800, 8, 1, "fp32", rounds=1, ends=False),
        Case("bundled", 1920, 1080, 8, 4, "fp32"),
        Case("bundled", 3840, 2160, 8, 4, "fp32", rounds=3),
    ]


def run(case: Case, job: Job, entered: Sequence[Contestant], meter: Meter) -> list[Figures] | str:
    """Rounds in which every contestant does every stage, so that whatever slows the machine slows all alike.

    Where one runs out of memory there is nothing to compare with: then who did, and what it said.
    """
    table: dict[str, Figures] = {}
    answers: dict[str, Answer] = {}
    for turn, contestant in product(range(case.rounds + 1), entered):
        name = contestant.name
        try:
            if turn == 0:
                table[name] = Figures(name, case.batch, warm_up(contestant, job))
            else:
                answers[name] = measure(contestant, job, meter, table[name], ends=case.ends)
        except (torch.OutOfMemoryError, PermanentOutOfMemoryError) as exc:
            cause = str(exc).partition("\n")[0]
            return f"{name} ran out of memory: {cause}"
        say(f"{case}: {name}, " + (f"round {turn} of {case.rounds}" if turn else "warm"))
    compare(answers, entered, table, (case.width_px, case.height_px))
    return list(table.values())


def make_job(case: Case, folder: Path) -> Job:
    pictures = drawn(case.batch, case.width_px, case.height_px)
    classes = [ClassPlan(text, text, "bitmask", (text,), 0.05, 100) for text in PROMPTS]
    return Job(
        plan=PromptPlan(tuple(classes)),
        boxes_xyxy_px=grid(case.boxes, case.width_px, case.height_px),
        pictures=pictures,
        files=as_files(pictures, folder),
        film=as_film(pictures, folder / "film.mp4"),
    )


def warm_up(contestant: Contestant, job: Job) -> int:
    """The first calls, which also make caches and choose kernels; FLOPs of the whole batch."""

    def once() -> None:
        contestant.detect(job)
        contestant.segment(job)

    if contestant.name == COMPILED:
        once()  # as the plain one, and a counter would stand in the compiler's way
    flops = 0 if contestant.name == COMPILED else count_flops(once)
    if torch.cuda.is_available():
        once()
        once()
    return flops


Answer = tuple[list[Boxes], list[Any]]


def measure(contestant: Contestant, job: Job, meter: Meter, figures: Figures, *, ends: bool) -> Answer:
    boxes, detecting = meter(lambda: contestant.detect(job))
    masks, segmenting = meter(lambda: contestant.segment(job))
    _, converting = meter(lambda: contestant.convert(job, masks))
    for name, cost in zip(MODEL_STAGES, (detecting, segmenting, converting), strict=True):
        figures.add(name, cost)
    for name, whole in (("from files", contestant.from_files), ("from MP4", contestant.from_film)):
        if ends:
            count, cost = meter(partial(whole, job))
            if count != len(job.pictures):
                raise SystemExit(f"{contestant.name}, {name}: {count} frames of {len(job.pictures)}")
            figures.add(name, cost)
    return boxes, masks


def compare(
    answers: dict[str, Answer], entered: Sequence[Contestant], table: dict[str, Figures], size_px: tuple[int, int]
) -> None:
    """How far every contestant's boxes and masks are from those before it."""
    like: list[Mask] = [mask for of_frame in answers[OURS][1] for mask in of_frame]
    windows = {it.name: it.windows(answers[it.name][1], like) for it in entered}
    for place, later in enumerate(entered):
        for earlier in entered[:place]:
            frames = list(zip(answers[later.name][0], answers[earlier.name][0], strict=True))
            masks = zip(windows[later.name], windows[earlier.name], strict=True)
            table[later.name].agreements[earlier.name] = Agreement(
                boxes=sum(distinct(ours) for ours, _ in frames),
                box_error_norm=max(box_error_norm(*boxes, size_px) for boxes in frames),
                mask_iou=min(mask_iou(*pair) for pair in masks),
            )


def cases_of(wanted: argparse.Namespace, device: torch.device) -> list[Case]:
    """The usual ones of the device, narrowed or replaced by what was asked for."""
    usual = gpu_cases() if device.type == "cuda" else cpu_cases()
    asked = (wanted.pairs, wanted.precisions, wanted.sizes, wanted.boxes, wanted.batches)
    if not any(asked):
        return usual
    first = usual[0]
    default = (first.pair, first.precision, (first.width_px, first.height_px), first.boxes, first.batch)
    return [
        Case(pair, size_px[0], size_px[1], boxes, batch, precision, wanted.rounds, not wanted.stages_only)
        for pair, precision, size_px, boxes, batch in product(
            *(a or [d] for a, d in zip(asked, default, strict=True))
        )
    ]


def size_of(text: str) -> tuple[int, int]:
    """Raises ArgumentTypeError for what is no size, or one that H.264 cannot hold."""
    found = re.fullmatch(r"([1-9]\d*[02468])x([1-9]\d*[02468])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no even width and height such as 1920x1080")
    return int(found[1]), int(found[2])


def positive(text: str) -> int:
    """Raises ArgumentTypeError for what is no whole number above 0."""
    if not re.fullmatch(r"0*[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def file_of(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def file_to_write(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write a file {text}")
    return path


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    say_which = "; with none of these five, the usual cases of the device"
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, help=f"models{say_which}")
    parser.add_argument("--sizes", nargs="+", type=size_of, metavar="WxH", help="frames, of even width and height")
    parser.add_argument("--boxes", nargs="+", type=positive, help="segmented a frame")
    parser.add_argument("--batches", nargs="+", type=positive, help="frames a call")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=positive, default=3, help="for cases that were asked for")
    parser.add_argument("--stages-only", action="store_true", help="nothing from files and from an MP4")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile as well")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=positive, help="of torch; 1 on the CPU")
    parser.add_argument("--vocabulary", type=file_of, help="BERT's vocab.txt; else the bundled tokeniser")
    parser.add_argument("--cache", type=Path, help="keeps the random weights (0.7 to 3 GB a model) for the next run")
    parser.add_argument("--out", type=file_to_write, default="bench.json", help="every raw figure, after each case")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    wanted = parsed(arguments)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        publish(bench(wanted), wanted.out)
    except AutolabelError as exc:
        raise SystemExit(f"bench: {exc}") from exc
    except KeyboardInterrupt:
        raise SystemExit(f"bench: stopped; the cases that finished are above and in {wanted.out}") from None


def bench(wanted: argparse.Namespace) -> Iterator[Report]:
    """All cases, those of one pair and precision with the same loaded models; then the single steps.

    The report after each case, and at the end: one and the same, which grows.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if wanted.device == "auto" else wanted.device
    described, device = describe_device(name), torch.device(name)
    threads = wanted.threads or (1 if device.type == "cpu" else os.cpu_count() or 1)
    torch.set_num_threads(threads)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report = Report(described, "wall" if device.type == "cuda" else "cpu", threads, versions)
    meter = Meter(device)
    with tempfile.TemporaryDirectory() as temporary:
        cache = wanted.cache or Path(temporary)
        for (pair, precision), cases in groupby(cases_of(wanted, device), lambda case: (case.pair, case.precision)):
            if precision not in report.matrix_flops_per_s:
                report.matrix_flops_per_s[precision] = meter.matrix_rate(precision)
            detector, segmenter = (folder_of(part, cache, wanted.vocabulary) for part in PAIRS[pair])
            entered = contestants(detector, segmenter, device, precision, compiled=wanted.compile)
            torch.set_num_threads(threads)  # loading a small model sets them
            for case in cases:
                job = make_job(case, Path(temporary))
                report.cases.append((case, run(case, job, entered, meter)))
                yield report
    report.pieces.extend(pieces(meter, device, PIECE_ROUNDS))
    yield report


if __name__ == "__main__":
    main()
