"""What hostile files and models out of order do to a run: each function takes a seed and an amount, prints every
violation with what it takes to see it again, and gives their number."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from autolabel.batches import run_clips
from autolabel.core.assemble import assemble
from autolabel.core.detections import FrameLabels, pack, unpack
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.core.rows import Reason
from autolabel.decoder import BYTES_PER_PIXEL, FIXED_BYTES
from autolabel.decoding import LEAST_SHARED_BYTES, DecodeProcess
from autolabel.errors import PermanentInferenceError, PermanentMediaError
from autolabel.inferring import Eyes
from autolabel.pipeline import infer
from autolabel.plan import Options
from autolabel.preview import preview
from autolabel.protocols import RGB, Clip, ClipFailure
from autolabel.remote.frames import MediaReader
from autolabel.remote.shapes import to_platform
from autolabel.worker import InferenceProcess, Patience
from fakes import TOO_HIGH_PX, BlackReader, load_cramped_inference
from ledgers import open_ledger
from malformed import BadDetector, BadSegmenter, Malformed, media
from platform_fakes import RECIPE, FakeGallery, FakePlatform, make_row
from poison import load_poisoned

MAX_PIXELS = 1_000_000
IMPORTS_BYTES = 80 << 20
"""What a decoding process holds before its first file: 55 MiB here."""
LIMIT_BYTES = IMPORTS_BYTES + FIXED_BYTES + BYTES_PER_PIXEL * MAX_PIXELS + LEAST_SHARED_BYTES
CAP = 20
POISON_ENDS = {"abort": Reason.CRASH, "loop": Reason.DECODE, "allocate": Reason.TOO_LARGE}
"""What a row comes to whose file does that to the decoder; in the models each is a crash."""
PLAN = PromptPlan(
    (
        ClassPlan("box00001", "car", "bounding_box", ("car", "van"), 0.3, CAP),
        ClassPlan("bit00001", "road", "bitmask", ("road",), 0.3, CAP),
        ClassPlan("pol00001", "dog", "polygon", ("dog",), 0.3, CAP),
    ),
    ("nothing",),
)


def malformed_media(seed: int, amount: int) -> int:
    """T10: a file is read as the platform describes it or refused with a reason, within the memory it may take."""
    ends, wrong, peak = Counter[str](), list[str](), 0
    reader = DecodeProcess(MediaReader, MAX_PIXELS)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "media"
        for number, file in enumerate(media(seed, amount, Path(folder))):
            path.write_bytes(file.body)
            end, problem = _read(reader, file, path)
            ends[end] += 1
            wrong += [f"seed {seed}, file {number} ({file.what}): {problem}"] if problem else []
            peak = max(peak, *_peaks_bytes(), 0)
            path.unlink()
    reader.close()
    if peak > 1.1 * LIMIT_BYTES:
        wrong.append(f"seed {seed}: a decoding process held {peak >> 20} MiB, the limit is {LIMIT_BYTES >> 20}")
    print(
        f"T10 {amount} files, seed {seed}: {dict(ends)}, most memory {peak >> 20} of {LIMIT_BYTES >> 20} MiB", *wrong
    )
    return len(wrong)


def _read(reader: DecodeProcess, file: Malformed, path: Path) -> tuple[str, str]:
    """How it ended, and what was wrong with that."""
    width, height = file.size_px
    clip = Clip("row", path, range(file.video_frames or 1), width, height, file.video_frames)
    try:
        if file.video_frames is not None:
            reader.frame_times_s(clip)
        shapes = {(picture.shape, picture.dtype.name) for _, picture in reader.read(clip)}
    except PermanentMediaError as error:
        return error.reason, "" if error.reason != "crash" else str(error)
    except Exception as error:  # noqa: BLE001 # whatever it is, it is not typed
        return "error", repr(error)
    return "read", "" if shapes == {((height, width, 3), "uint8")} else f"pictures of {shapes}"


def _peaks_bytes() -> Iterator[int]:
    """The most memory that each child of ours that decodes has held."""
    for child in psutil.Process().children():
        status = Path(f"/proc/{child.pid}/status")
        if "autolabel.decoder" in " ".join(child.cmdline()):
            yield int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line)) << 10


def malformed_answers(seed: int, amount: int) -> int:
    """T11: of whatever models answer, what is labelled is sound; the rest is refused as their failure."""
    ends, wrong = Counter[str](), []
    for number in range(amount):
        detector, segmenter = BadDetector(seed, number), BadSegmenter(number)
        try:
            problem = _labelled(detector, segmenter)
            ends["labelled"] += 1
        except (PermanentInferenceError, ValueError):  # what the inference process makes one of
            problem = "a sound answer was refused" if detector.what == segmenter.what == "nothing" else ""
            ends["refused"] += 1
        except Exception as error:  # noqa: BLE001
            problem = repr(error)
        wrong += [f"seed {seed}, answer {number} ({detector.what}, {segmenter.what}): {problem}"] if problem else []
    print(f"T11 {amount} answers, seed {seed}: {dict(ends)}", *wrong)
    return len(wrong)


def _labelled(detector: BadDetector, segmenter: BadSegmenter) -> str:
    """What is wrong with the labels of one frame, from the models' answer to what the platform would get."""
    (frame,) = infer([(0, np.zeros((90, 160, 3), np.uint8))], PLAN, detector, segmenter, 0.7, 0.9)
    if unpack(pack([frame])) != [frame]:
        return "the ledger does not keep it"
    shapes = {cls.feature_hash: cls.shape for cls in PLAN.classes}
    content = to_platform(assemble([frame], shapes, "recipe", "row").instances)
    if len(content.hashes) != len(content.placed):
        return "two objects of one name"
    if any(count > CAP for count in Counter(item.feature_hash for item in content.placed).values()):
        return "more objects than the cap"
    unsound = [item for item in content.placed if not all(0 <= value <= 1 for value in _numbers(astuple(item)))]
    return f"values outside [0, 1]: {unsound[0]}" if unsound else ""


def poison(seed: int, amount: int) -> int:
    """T12: of each kind so many rows end the models or the decoder: they alone are set aside, the others finish."""
    kinds = [(f"{n}:models:{kind}" if n % 10 == 0 else f"{n}:{kind}") for n in range(amount) for kind in POISON_ENDS]
    rows = [make_row(name, width_px=8, height_px=6) for name in (*kinds, *(f"{n}:sound" for n in range(4 * amount)))]
    random.Random(seed).shuffle(rows)
    platform = FakePlatform(rows)
    inference = InferenceProcess(load_poisoned, Patience(grace_s=5.0, frame_s=0.0), max_bytes=600 << 20)
    with TemporaryDirectory() as folder, closing(inference), closing(open_ledger(Path(folder))) as ledger:
        eyes = Eyes(platform.download, inference, ledger, Path(folder))
        tally = preview(RECIPE, eyes, rows, FakeGallery(), Options(batch_frames=8), lambda tally: None)
    in_models = sum(":models:" in name for name in kinds)
    expected = Counter(POISON_ENDS[name.rpartition(":")[2]] for name in kinds if ":models:" not in name)
    expected[Reason.CRASH] += in_models
    wrong = [] if (tally.set_aside, tally.empty) == (expected, 4 * amount) else [f"{expected} was expected"]
    print(
        f"T12 {amount} of each of {list(POISON_ENDS)}, {in_models} in the models, seed {seed}: set aside "
        f"{dict(tally.set_aside)}, finished {tally.empty} of {4 * amount}",
        *wrong,
    )
    return len(wrong)


def out_of_memory(seed: int, amount: int) -> int:
    """T13: at every size a batch that does not fit is halved with the same result, by the same process."""
    chance, wrong = random.Random(seed), []
    inference = InferenceProcess(load_cramped_inference)
    processes = set[int]()
    with TemporaryDirectory() as folder, closing(inference):
        for number in range(amount):
            clips = _cramped_clips(chance, Path(folder), room=1 + number % 8)
            expected = run_clips(clips, BlackReader(), _unhindered, 8)
            sound = [
                ClipFailure(Reason.OOM, "no room") if clip.height_px == TOO_HIGH_PX else answer
                for clip, answer in zip(clips, expected, strict=True)
            ]
            wrong += [] if inference.ask(clips)() == sound else [f"seed {seed}, batch {number} came out otherwise"]
            processes |= {child.pid for child in psutil.Process().children() if "spawn_main" in str(child.cmdline())}
    wrong += [] if len(processes) == 1 else [f"seed {seed}: {len(processes)} processes"]
    print(f"T13 {amount} batches without memory, seed {seed}, at 1 to 8 frames", *wrong)
    return len(wrong)


def _cramped_clips(chance: random.Random, folder: Path, room: int) -> list[Clip]:
    clips = []
    for number in range(chance.randint(1, 6)):
        path = folder / f"{number}"
        path.touch()
        height = chance.choice((2, 2, TOO_HIGH_PX))
        clips.append(Clip(f"{number}", path, range(chance.randint(1, 20)), room, height))
    return clips


def _unhindered(frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
    return [FrameLabels(index, image.shape[1], image.shape[0], ()) for index, image in frames]


def _numbers(value: Any) -> Iterator[float]:
    """All floats in nested tuples; what is not finite as well."""
    if isinstance(value, float):
        yield value if math.isfinite(value) else math.inf
    elif isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
