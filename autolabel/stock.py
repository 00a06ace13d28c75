"""The weights that recipes can name: what of them lies on this machine, and whether it is whole. Loads none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autolabel.documents import shelf
from autolabel.errors import PermanentModelError
from autolabel.models.catalogue import CATALOGUE, Published, published
from autolabel.models.weights import WeightFile, check_files, digest_of, find, is_hub_id
from autolabel.recipe import load_config


@dataclass(frozen=True)
class Holding:
    """Weights of the catalogue, where they lie (None: not here), and which shipped configs use them."""

    published: Published
    place: Path | None
    configs: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """Weights that were read from disk. `digest` is what enters the id of a recipe that uses them."""

    weights: str
    files: tuple[WeightFile, ...]
    digest: str


def holdings() -> list[Holding]:
    """The whole catalogue, in its order."""
    used = {name: weights_of(name) for name in shelf("configs")}
    return [
        Holding(item, find(item.weights), tuple(name for name, weights in used.items() if item.weights in weights))
        for item in CATALOGUE
    ]


def weights_of(config: str) -> list[str]:
    """What a config's models are loaded from. Raises PermanentUsageError."""
    recipe = load_config(config)
    return [model.weights for model in (recipe.detector, recipe.segmenter) if model is not None]


def describe(weights: str) -> str:
    """Size and licence in words."""
    known = published(weights)
    if known is None:
        page = f"https://huggingface.co/{weights}" if is_hub_id(weights) else "where they come from"
        return f"size and licence not in the catalogue, see {page}"
    gate = ", gated: the hub asks for a login" if known.is_gated else ""
    return f"about {known.size_mb} MB, {known.licence}{gate}"


def check(weights: str) -> Checked:
    """Read them from end to end. Raises PermanentModelError where they are not, or not all, here."""
    place = find(weights)
    if place is None:
        raise PermanentModelError(f"{weights} is not, or not wholly, here: `autolabel models pull {weights}`")
    files = tuple(check_files(place))
    return Checked(weights, files, digest_of(place, ((file.path, file.sha256) for file in files)))
