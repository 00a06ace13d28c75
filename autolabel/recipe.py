"""What is answered: models, prompts, thresholds. Read from YAML, made concrete for a project, hashed into an id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter

from autolabel.core.identity import digest, object_hash
from autolabel.core.lint import refusals
from autolabel.core.prompts import SHAPES, ClassPlan, PromptPlan, Shape, normalise
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.core.sampling import sample_count
from autolabel.documents import Document, Strict, find, is_path, read_document
from autolabel.errors import PermanentUsageError
from autolabel.prompt_map import ClassPrompts, PromptMap, Score, map_entries

MAX_KNOWN_SLOTS = 5000


class ModelChoice(Strict):
    """`weights`: a hub id, a local folder, or `bundled:NAME` for the small models that ship with the package.

    `precision`: of weights and activations; bf16 is what GPUs are fast at, and moves scores by about 0.01.
    """

    family: str
    weights: str
    precision: Literal["fp32", "bf16"] = "fp32"


class Tiles(Strict):
    """Square parts of a frame that are looked at one by one, besides the frame as a whole.

    - `size_px`: of each side, in pixels of the frame; `overlap`: the share of it that neighbours have in common.
    """

    size_px: Annotated[int, Field(ge=64)]
    overlap: Annotated[float, Field(ge=0.1, le=0.5)] = 0.25


class RecipeConfig(Strict):
    """A file of `configs/`. Thresholds and caps here hold for every class that the prompt map says nothing about.

    - `video_fps`: how many frames of a second of video are looked at; `native` for every one.
    - `min_track`: an object of a video that is seen on fewer of them is not labelled.
    - `prompts_per_pass`: how many prompts share a pass of the detector: many are cheap, few disturb each other less.
    - `tiles`: look also at parts of each frame, enlarged: finds small objects, at the cost of a frame a tile.
    - `confidence`: what labels carry: the detector's score as it is, or how often detections of that score were right
      in the trial that wrote the prompt map's calibrations. Thresholds are of the score either way.
    """

    description: str = ""
    detector: ModelChoice
    segmenter: ModelChoice | None = None
    prompt_map: str | None = None
    threshold: Score = 0.35
    max_instances: Annotated[int, Field(ge=1)] = 50
    nms_iou: Score = 0.7
    cross_class_iou: Score = 0.9
    video_fps: Annotated[float, Field(gt=0)] | Literal["native"] = 1.0
    min_track: Annotated[int, Field(ge=1)] = 2
    prompts_per_pass: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    tiles: Tiles | None = None
    confidence: Literal["raw", "calibrated"] = "raw"


def load_config(name: str) -> RecipeConfig:
    """A config by name (`demo`) or path; paths in it, to a prompt map or weights, start at the config's own folder.

    Raises PermanentUsageError with file, line and what is wrong.
    """
    path = find("configs", name)
    config = read_document(path, RecipeConfig).content
    changes: dict[str, Any] = {
        part: model.model_copy(update={"weights": str(folder.absolute())})
        for part, model in (("detector", config.detector), ("segmenter", config.segmenter))
        if model is not None and (folder := path.parent / model.weights).exists()
    }
    if config.prompt_map is not None and is_path(config.prompt_map):
        changes["prompt_map"] = str(path.parent / config.prompt_map)
    return config.model_copy(update=changes)


def plan_prompts(
    config: RecipeConfig, prompts: Document[PromptMap] | None, ontology: Sequence[OntologyClass]
) -> tuple[PromptPlan, tuple[OntologyClass, ...]]:
    """Which classes are looked for and how; second, the classes left to people.

    Raises PermanentUsageError when the map and the ontology disagree, a prompt is empty or no class is left.
    """
    plan = draft_prompts(config, prompts, ontology)
    if refused := refusals(plan, ontology, map_entries(prompts)):
        raise PermanentUsageError(f"{refused[0]} (nothing was changed)")
    asked = {cls.feature_hash for cls in plan.classes}
    return plan, tuple(item for item in ontology if item.feature_hash not in asked)


def draft_prompts(
    config: RecipeConfig, prompts: Document[PromptMap] | None, ontology: Sequence[OntologyClass]
) -> PromptPlan:
    """As `plan_prompts`, but refuses nothing: for the linter, which tells of every fault."""
    mapped = prompts.content.classes if prompts else {}
    usable = [item for item in ontology if item.shape in SHAPES]
    drafts = [_class_plan(item, mapped.get(item.name, ClassPrompts()), config) for item in usable]
    distractors = _normalised(prompts.content.distractors) if prompts else ()
    per_pass = None if config.prompts_per_pass == "all" else config.prompts_per_pass
    return PromptPlan(tuple(cls for cls in drafts if cls.prompts), distractors, per_pass)


def _class_plan(item: OntologyClass, own: ClassPrompts, config: RecipeConfig) -> ClassPlan:
    return ClassPlan(
        feature_hash=item.feature_hash,
        name=item.name,
        shape=cast(Shape, item.shape),
        prompts=_normalised((item.name,) if own.prompts is None else own.prompts),
        threshold=config.threshold if own.threshold is None else own.threshold,
        max_instances=own.max_instances or config.max_instances,
        calibration=(own.calibration or ()) if config.confidence == "calibrated" else (),
    )


def _normalised(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normalise(text) for text in texts))


@dataclass(frozen=True)
class Recipe:
    """A config made concrete: the plan for this ontology and the digests of the weights on disk."""

    config: RecipeConfig
    plan: PromptPlan
    detector_digest: str
    segmenter_digest: str

    def described(self) -> dict[str, Any]:
        """All that decides the answer. Names, colours, other classes, batch size and device are not in it.

        What came later stands in it only where it is used, so that older recipes keep their ids.
        """
        return self._later() | {
            "classes": [
                [cls.feature_hash, cls.shape, cls.prompts, cls.threshold, cls.max_instances]
                for cls in self.plan.classes
            ],
            "distractors": self.plan.distractors,
            "detector": [self.config.detector.family, self.detector_digest],
            "segmenter": [self.config.segmenter.family, self.segmenter_digest] if self.config.segmenter else None,
            "suppression": [self.config.nms_iou, self.config.cross_class_iou],
            "video": [self.config.video_fps, self.config.min_track],
        }

    def _later(self) -> dict[str, Any]:
        config = self.config
        precision = [config.detector.precision, config.segmenter.precision if config.segmenter else None]
        return {
            **({"precision": precision} if "bf16" in precision else {}),
            **({"prompts_per_pass": self.plan.per_pass} if self.plan.per_pass else {}),
            **({"tiles": config.tiles.model_dump()} if config.tiles else {}),
            **({"calibration": [cls.calibration for cls in self.plan.classes]} if self.is_calibrated else {}),
        }

    @property
    def is_calibrated(self) -> bool:
        return self.config.confidence == "calibrated"

    @cached_property
    def scoring_id(self) -> str:
        """SHA-256 (hex) of all that decides scores, and which of them are right: what a calibration holds for.

        That is all that decides the answer but thresholds, and calibrations themselves.
        """
        config = self.config.model_copy(update={"confidence": "raw"})
        classes = tuple(replace(cls, threshold=0.0) for cls in self.plan.classes)
        return digest(replace(self, config=config, plan=replace(self.plan, classes=classes)).described())

    def to_json(self) -> dict[str, Any]:
        """For the ledger: `from_json` of this, on any later day, gives an equal recipe with the same id."""
        return _RECIPE.dump_python(self, mode="json")  # type: ignore[no-any-return]

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Recipe:
        return _RECIPE.validate_python(raw)

    @cached_property
    def id(self) -> str:
        """SHA-256 (hex) of `described`."""
        return digest(self.described())

    @property
    def branch(self) -> str:
        """Our own label branch; never starts with the platform's reserved `encord-`."""
        return f"autolabel-{self.id[:8]}"

    @property
    def frames_per_second(self) -> float | None:
        """At which videos are looked at; None for every frame."""
        return None if self.config.video_fps == "native" else self.config.video_fps

    def samples_per_second(self, row: LabelRow) -> float | None:
        """At which frames of a video come to be looked at; None for pictures.

        Where nobody knows a video's rate, 25 is as good as any.
        """
        if not row.is_video:
            return None
        native = row.frames_per_second or 25.0
        return min(native, self.frames_per_second or native)

    def frame_count(self, row: LabelRow) -> int:
        """How many frames of a row are looked at, as far as its metadata tells."""
        return sample_count(row.frames, row.frames_per_second, self.frames_per_second) if row.is_video else row.frames

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {cls.feature_hash: cls.shape for cls in self.plan.classes}

    def can_have_named(self, row: LabelRow, objects: Mapping[str, str]) -> bool:
        """Whether all these objects (hash -> class feature hash) of the row bear hashes that this recipe gives.

        Known without any ledger, collisions apart. Of a long video only the first ones are tried: as labels that
        nobody can tell the others are safe too, only counted otherwise.
        """
        frames = self.frame_count(row)
        slots = {cls.feature_hash: min(cls.max_instances * frames, MAX_KNOWN_SLOTS) for cls in self.plan.classes}
        for feature_hash in set(objects.values()):
            missing = {name for name, its_class in objects.items() if its_class == feature_hash}
            for slot in range(slots.get(feature_hash, 0)):
                missing.discard(object_hash(self.id, row.data_hash, feature_hash, slot))
                if not missing:
                    break
            if missing:
                return False
        return True


def check_calibration(recipe: Recipe, prompts: Document[PromptMap] | None) -> None:
    """Raises PermanentUsageError for a recipe of calibrated confidence whose prompt map has none, or another's."""
    if not recipe.is_calibrated:
        return
    missing = [cls.name for cls in recipe.plan.classes if not cls.calibration]
    if prompts is None:
        why = "there is no prompt map"
    elif prompts.content.calibrated_for != recipe.scoring_id:
        why = f"{prompts.at('calibrated_for')}: it is not for this recipe's prompts, weights and tiles"
    elif missing:
        why = f"{prompts.at('classes', missing[0])}: there is no calibration of {', '.join(missing)}"
    else:
        return
    raise PermanentUsageError(
        f"`confidence: calibrated` cannot be had: {why}. Run `autolabel trial` with --write-map on rows that people "
        "have finished, or set `confidence: raw`. Nothing was changed"
    )


_RECIPE = TypeAdapter(Recipe)
