"""Who labels the frames: the public Grounded-SAM recipe, and this project with and without its fast paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import AutoModelForMaskGeneration, AutoModelForZeroShotObjectDetection, AutoProcessor

from autolabel.core.assemble import Instance
from autolabel.core.assemble import Placement as Placed
from autolabel.core.detections import Detection, Detections, FrameLabels, Mask
from autolabel.core.geometry import BoolArray, mask_to_window
from autolabel.core.prompts import PromptPlan
from autolabel.models import Placement, load_detector, load_segmenter
from autolabel.models.placement import Precision
from autolabel.pipeline import infer
from autolabel.protocols import RGB, Clip, TextDetector
from autolabel.remote.frames import MediaReader
from autolabel.remote.shapes import to_platform
from benching.agreement import Boxes
from benching.speed_report import COMPILED, OURS, PUBLIC, REFERENCE

BOX_THRESHOLD, TEXT_THRESHOLD = 0.4, 0.3  # as in the authors' demo
NMS_IOU, CROSS_CLASS_IOU = 0.7, 0.9
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Job:
    """What every contestant is given.

    - `pictures`: one batch; `files`, `film`: the same frames as JPEGs and as an MP4.
    - `boxes_xyxy_px`: what is segmented, whatever the detector finds: random weights find anything.
    """

    plan: PromptPlan
    boxes_xyxy_px: Boxes
    pictures: Sequence[RGB]
    files: Sequence[Path]
    film: Path


class Contestant(Protocol):
    """Stages one by one over one batch, and the whole way from a file to what is sent."""

    name: str

    def detect(self, job: Job) -> list[Boxes]: ...

    def segment(self, job: Job) -> list[Any]: ...

    def convert(self, job: Job, masks: list[Any]) -> list[str]:
        """Masks as `segment` gives them -> the text of each."""
        ...

    def windows(self, masks: list[Any], like: Sequence[Mask]) -> list[BoolArray]:
        """All masks in a row, each cut to the window of its counterpart."""
        ...

    def from_files(self, job: Job) -> int:
        """Label the pictures of `job.files`; how many they were."""
        ...

    def from_film(self, job: Job) -> int: ...


class PublicRecipe:
    """Grounded-SAM as its authors' demo runs it with transformers.

    One picture at a time; the text encoded each time; labels decoded from tokens; masks over the whole frame.
    """

    name = PUBLIC

    def __init__(self, detector: Path, segmenter: Path, device: torch.device, precision: Precision) -> None:
        self._device = device
        self._detector = (
            AutoModelForZeroShotObjectDetection.from_pretrained(detector).to(device).eval().requires_grad_(False)
        )
        self._segmenter = (
            AutoModelForMaskGeneration.from_pretrained(segmenter).to(device).eval().requires_grad_(False)
        )
        self._reads = AutoProcessor.from_pretrained(detector)
        self._prompts = AutoProcessor.from_pretrained(segmenter)
        self._lower = precision == "bf16"

    def detect(self, job: Job) -> list[Boxes]:
        return [self._boxes(Image.fromarray(rgb), job) for rgb in job.pictures]

    def segment(self, job: Job) -> list[Any]:
        return [self._masks(Image.fromarray(rgb), job) for rgb in job.pictures]

    def convert(self, job: Job, masks: list[Any]) -> list[str]:
        return [coco_text(mask) for of_frame in masks for mask in of_frame]

    def windows(self, masks: list[Any], like: Sequence[Mask]) -> list[BoolArray]:
        whole = [mask for of_frame in masks for mask in of_frame]
        return [cut(mask, other) for mask, other in zip(whole, like, strict=True)]

    def from_files(self, job: Job) -> int:
        return self._label((Image.open(path).convert("RGB") for path in job.files), job)

    def from_film(self, job: Job) -> int:
        return self._label(_by_opencv(job.film), job)

    def _label(self, pictures: Iterable[Image.Image], job: Job) -> int:
        count = 0
        for picture in pictures:
            self._boxes(picture, job)
            self.convert(job, [self._masks(picture, job)])
            count += 1
        return count

    @torch.no_grad()
    def _boxes(self, picture: Image.Image, job: Job) -> Boxes:
        """All of the model's, also those that the recipe's thresholds leave out: what is compared."""
        text = ". ".join(job.plan.prompts) + "."
        inputs = self._reads(images=picture, text=text, return_tensors="pt").to(self._device)
        with self._precision():
            outputs = self._detector(**inputs)
        self._reads.post_process_grounded_object_detection(
            outputs,
            inputs.input_ids,
            threshold=BOX_THRESHOLD,
            text_threshold=TEXT_THRESHOLD,
            target_sizes=[picture.size[::-1]],
        )
        centre, half = outputs.pred_boxes[0].float().split(2, dim=-1)
        corners = torch.cat([centre - half / 2, centre + half / 2], dim=-1)
        boxes: Boxes = corners.cpu().numpy() * np.array(picture.size * 2, np.float32)
        return boxes

    @torch.no_grad()
    def _masks(self, picture: Image.Image, job: Job) -> NDArray[np.bool_]:
        inputs = self._prompts(images=picture, input_boxes=[job.boxes_xyxy_px.tolist()], return_tensors="pt")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        inputs = inputs.to(self._device)
        with self._precision():
            outputs = self._segmenter(**inputs, multimask_output=False)
        (masks,) = self._prompts.image_processor.post_process_masks(
            outputs.pred_masks.float(), inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )
        whole: NDArray[np.bool_] = masks[:, 0].cpu().numpy()
        return whole

    def _precision(self) -> Any:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._lower)


def coco_text(mask: NDArray[np.bool_]) -> str:
    """As the authors' demo writes its JSON."""
    rle = coco_mask.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0]
    return str(rle["counts"].decode("utf-8"))


def _by_opencv(film: Path) -> Iterator[Image.Image]:
    video = cv2.VideoCapture(str(film))
    while (read := video.read())[0]:
        yield Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    video.release()


def cut(whole: BoolArray, window_of: Mask) -> BoolArray:
    left, top, right, bottom = window_of.window_xyxy_px
    return whole[top:bottom, left:right]


class FixedBoxes:
    """A TextDetector that looks, and then says what the job says."""

    def __init__(self, inner: TextDetector, boxes_xyxy_px: Boxes) -> None:
        self._inner = inner
        self._boxes = boxes_xyxy_px

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        self._inner.detect(images, plan)
        scores = np.zeros((len(self._boxes), len(plan.prompts)), np.float32)
        scores[:, 0] = np.linspace(0.9, 0.8, len(self._boxes))
        return [Detections(self._boxes, scores) for _ in images]


class Ours:
    """This project's models behind their seams, its pipeline, and labels as they would be sent."""

    def __init__(self, name: str, detector: Path, segmenter: Path, placement: Placement) -> None:
        self.name = name
        self._detector = load_detector("grounding_dino", str(detector), placement)
        self._segmenter = load_segmenter("sam", str(segmenter), placement)

    def detect(self, job: Job) -> list[Boxes]:
        return [found.boxes_xyxy_px for found in self._detector.detect(job.pictures, job.plan)]

    def segment(self, job: Job) -> list[Any]:
        return list(self._segmenter.segment(job.pictures, [job.boxes_xyxy_px] * len(job.pictures)))

    def convert(self, job: Job, masks: list[Any]) -> list[str]:
        height_px, width_px, _ = job.pictures[0].shape
        found = [tuple(Detection("class", "prompt", 0.9, (0, 0, 1, 1), mask) for mask in frame) for frame in masks]
        return _as_sent(FrameLabels(i, width_px, height_px, frame) for i, frame in enumerate(found))

    def windows(self, masks: list[Any], like: Sequence[Mask]) -> list[BoolArray]:
        return [mask_to_window(mask) for of_frame in masks for mask in of_frame]

    def from_files(self, job: Job) -> int:
        height_px, width_px, _ = job.pictures[0].shape
        reader = MediaReader(MAX_PIXELS)
        clips = (Clip(path.name, path, [0], width_px, height_px) for path in job.files)
        return self._label((frame for clip in clips for frame in reader.read(clip)), job)

    def from_film(self, job: Job) -> int:
        height_px, width_px, _ = job.pictures[0].shape
        count = len(job.files)
        film = Clip("film", job.film, range(count), width_px, height_px, video_frames=count)
        return self._label(MediaReader(MAX_PIXELS).read(film), job)

    def _label(self, frames: Iterable[tuple[int, RGB]], job: Job) -> int:
        looks = FixedBoxes(self._detector, job.boxes_xyxy_px)
        count = 0
        for some in batched(frames, len(job.pictures)):
            labels = infer(some, job.plan, looks, self._segmenter, NMS_IOU, CROSS_CLASS_IOU)
            _as_sent(labels)
            count += len(labels)
        return count


def _as_sent(labels: Iterable[FrameLabels]) -> list[str]:
    """As in a push, an object whose mask came out empty is none."""
    instances = [
        Instance(f"{i}-{slot}", found.feature_hash, "bitmask", slot, (Placed(i, it.width_px, it.height_px, found),))
        for i, it in enumerate(labels)
        for slot, found in enumerate(it.detections)
        if found.mask is not None
    ]
    return [str(item.geometry) for item in to_platform(instances).placed]


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


class Compiled(Ours):
    """Ours with its networks compiled, each whole or not at all; anew for every size and batch."""

    def __init__(self, name: str, detector: Path, segmenter: Path, placement: Placement) -> None:
        super().__init__(name, detector, segmenter, placement)
        steps = {self._detector: ("_forward", "see", "answer_on"), self._segmenter: ("_network", "embed", "decode")}
        for model, (part, *names) in steps.items():
            for step in names:
                plain = getattr(getattr(model, part), step)
                setattr(getattr(model, part), step, torch.compile(plain, fullgraph=True, dynamic=False))


def contestants(
    detector: Path, segmenter: Path, device: torch.device, precision: Precision, *, compiled: bool = False
) -> list[Contestant]:
    """(a) the public recipe, (b) ours with every fast path off, (c) ours, and where asked for (c) compiled."""
    slow = Placement(str(device), precision, is_reference=True)
    fast = Placement(str(device), precision)
    return [
        PublicRecipe(detector, segmenter, device, precision),
        Ours(REFERENCE, detector, segmenter, slow),
        Ours(OURS, detector, segmenter, fast),
        *([Compiled(COMPILED, detector, segmenter, fast)] if compiled else []),
    ]
