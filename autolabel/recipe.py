"""What is answered: models, prompts, thresholds. Read from YAML, made concrete for a project, hashed into an id."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from autolabel.core.identity import digest, object_hash
from autolabel.core.prompts import SHAPES, ClassPlan, PromptPlan, Shape, normalise
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.errors import PermanentUsageError

Score = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(Strict):
    """`weights`: a hub id, a local folder, or `bundled:NAME` for the small models that ship with the package."""

    family: str
    weights: str


class RecipeConfig(Strict):
    """A file of `configs/`. Thresholds and caps here hold for every class that the prompt map says nothing about."""

    description: str = ""
    detector: ModelChoice
    segmenter: ModelChoice | None = None
    prompt_map: str | None = None
    threshold: Score = 0.35
    max_instances: Annotated[int, Field(ge=1)] = 50
    nms_iou: Score = 0.7
    cross_class_iou: Score = 0.9


class ClassPrompts(Strict):
    """One class of a prompt map; what is left out comes from the ontology's name and the config."""

    prompts: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    threshold: Score | None = None
    max_instances: Annotated[int, Field(ge=1)] | None = None


class PromptMap(Strict):
    """A file of `ontologies/`: class name -> its prompts; distractors are prompts that mean no class."""

    classes: dict[str, ClassPrompts]
    distractors: tuple[str, ...] = ()


def load_config(name: str) -> RecipeConfig:
    """A config by name (`demo`) or path. Raises PermanentUsageError with file, field and what is wrong."""
    path = _find("configs", name)
    return cast(RecipeConfig, _parse(RecipeConfig, path))


def load_prompt_map(name: str) -> PromptMap:
    """A prompt map by name or path. Raises PermanentUsageError."""
    return cast(PromptMap, _parse(PromptMap, _find("ontologies", name)))


def _find(folder: str, name: str) -> Path:
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).is_file():
            return Path(name)
        raise PermanentUsageError(f"there is no file {name}; nothing was done")
    package = Path(__file__).parent
    shelf = next(place for place in (package / folder, package.parent / folder) if place.is_dir())
    known = {path.stem: path for path in shelf.glob("*.yaml")}
    if name not in known:
        raise PermanentUsageError(
            f"no {folder} file is called {name!r}{_nearest(name, list(known))}; nothing was done"
        )
    return known[name]


def _parse(model: type[Strict], path: Path) -> Strict:
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PermanentUsageError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PermanentUsageError(f"{path}: {where}: {first['msg']}") from error


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(sorted(known))}"


def plan_prompts(
    config: RecipeConfig, prompts: PromptMap | None, ontology: Sequence[OntologyClass]
) -> tuple[PromptPlan, tuple[OntologyClass, ...]]:
    """Which classes are looked for and how; second, the classes whose shape cannot be made.

    Raises PermanentUsageError when no class is left, a name gives no prompt, or the map names an unknown class.
    """
    usable = [item for item in ontology if item.shape in SHAPES]
    mapped: Mapping[str, ClassPrompts] = prompts.classes if prompts else {}
    for name in mapped:
        if name not in {item.name for item in ontology}:
            names = [item.name for item in ontology]
            raise PermanentUsageError(
                f"the prompt map names {name!r}, which the ontology lacks{_nearest(name, names)}"
            )
    if not usable:
        raise PermanentUsageError(
            f"no class of the ontology can be labelled: its {len(ontology)} objects are none of {', '.join(SHAPES)}; "
            "add such an object to the ontology. Nothing was changed"
        )
    classes = tuple(_class_plan(item, mapped.get(item.name, ClassPrompts()), config) for item in usable)
    distractors = tuple(normalise(text) for text in prompts.distractors) if prompts else ()
    return PromptPlan(classes, distractors), tuple(item for item in ontology if item.shape not in SHAPES)


def _class_plan(item: OntologyClass, own: ClassPrompts, config: RecipeConfig) -> ClassPlan:
    texts = tuple(dict.fromkeys(normalise(text) for text in own.prompts or (item.name,)))
    if "" in texts:
        raise PermanentUsageError(f"class {item.name!r} gives an empty prompt; name its prompts in a prompt map")
    return ClassPlan(
        feature_hash=item.feature_hash,
        name=item.name,
        shape=cast(Shape, item.shape),
        prompts=texts,
        threshold=config.threshold if own.threshold is None else own.threshold,
        max_instances=own.max_instances or config.max_instances,
    )


@dataclass(frozen=True)
class Recipe:
    """A config made concrete: the plan for this ontology and the digests of the weights on disk."""

    config: RecipeConfig
    plan: PromptPlan
    detector_digest: str
    segmenter_digest: str

    def described(self) -> dict[str, Any]:
        """All that decides the answer. Names, colours, other classes, batch size and device are not in it."""
        return {
            "classes": [
                [cls.feature_hash, cls.shape, cls.prompts, cls.threshold, cls.max_instances]
                for cls in self.plan.classes
            ],
            "distractors": self.plan.distractors,
            "detector": [self.config.detector.family, self.detector_digest],
            "segmenter": [self.config.segmenter.family, self.segmenter_digest] if self.config.segmenter else None,
            "suppression": [self.config.nms_iou, self.config.cross_class_iou],
        }

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

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {cls.feature_hash: cls.shape for cls in self.plan.classes}

    def object_hashes(self, row: LabelRow) -> frozenset[str]:
        """Every hash this recipe can give to an object of the row (collisions apart): known without any ledger."""
        return frozenset(
            object_hash(self.id, row.data_hash, cls.feature_hash, slot)
            for cls in self.plan.classes
            for slot in range(cls.max_instances * row.frames)
        )


_RECIPE = TypeAdapter(Recipe)
