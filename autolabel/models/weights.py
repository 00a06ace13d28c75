"""Where weights lie on this disk, and whether they are whole. No torch; the only place that asks the hub."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from autolabel.errors import PermanentModelError

logger = logging.getLogger(__name__)

BUNDLED = "bundled:"
CHECKPOINT = ".pth"
# Nothing else is downloaded, loaded or hashed: no pickles, no code, no model cards. A checkpoint in PyTorch's own
# format is taken only where somebody names that very file.
TEXT_FILES = ("*.json", "vocab.txt")
WEIGHT_FILES = ("*.safetensors", *TEXT_FILES)
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
HUB_TIMEOUT_S = 10.0
SHA256, GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


class State(StrEnum):
    """Of a file: it is as the hub gave it, there is no digest to compare it with, or it is damaged."""

    PUBLISHED = "as published"
    HASHED = "hashed"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class WeightFile:
    """A file that decides what a model answers; `sha256` in hex, of its content."""

    path: Path
    sha256: str
    state: State


def locate(weights: str, files: tuple[str, ...] = WEIGHT_FILES) -> Path:
    """`weights` -> the folder that holds them, or the file where they are a checkpoint (`.pth`).

    They are named by a folder, a file, a hub id or `bundled:NAME`. A hub id is looked up in the local cache first;
    only what is not there is downloaded. With `files=TEXT_FILES` the folder need only hold the configuration and the
    tokeniser: a few hundred kB. Raises PermanentModelError, saying which weights and what to do.
    """
    return find(weights, files) or download(weights, files)


def find(weights: str, files: tuple[str, ...] = WEIGHT_FILES) -> Path | None:
    """As `locate`, but nothing is downloaded: None for a hub id of which not all is in the cache."""
    if is_hub_id(weights):
        cached = _snapshot(weights, files, cached=True)
        return cached if cached is not None and _is_complete(cached, files) else None
    here = _local(weights)
    if not _is_complete(here, files):
        raise PermanentModelError(_nothing_at(weights))
    return here


def is_hub_id(weights: str) -> bool:
    """Whether they come from the hub. What lies on this disk by that name goes before a hub id."""
    if weights.startswith(BUNDLED) or Path(weights).suffix == CHECKPOINT:
        return False
    return HUB_ID.fullmatch(weights) is not None and not _local(weights).is_dir()


def download(hub_id: str, files: tuple[str, ...] = WEIGHT_FILES, *, is_quiet: bool = True) -> Path:
    """From the hub into its cache; a bar shows how far it is unless `is_quiet`. Raises PermanentModelError."""
    logger.info("downloading %s from the hub", hub_id)
    folder = _snapshot(hub_id, files, cached=False, is_quiet=is_quiet)
    if folder is None or not _is_complete(folder, files):
        raise PermanentModelError(_nothing_at(hub_id))
    return folder


def weights_digest(weights: str) -> str:
    """SHA-256 (hex) of what decides the answer, as it lies on disk: it goes into the recipe's id.

    Of a folder over weights, configuration and tokeniser, by name and content: a hub id and a plain copy of its files
    have one digest. Of a checkpoint the file's own, whatever its name. Raises what `locate` raises.
    """
    here = locate(weights)
    return digest_of(here, ((path, _sha256(path)) for path in weight_files(here)))


def digest_of(place: Path, hashed: Iterable[tuple[Path, str]]) -> str:
    """As `weights_digest`, from the files' own digests, in the order of `weight_files`."""
    if place.is_file():
        return next(sha256 for _, sha256 in hashed)
    lines = (f"{path.name}\0{sha256}\n" for path, sha256 in hashed)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_files(place: Path) -> Iterator[WeightFile]:
    """Read the weights at `place` (as `find` gives it) from end to end; loads nothing.

    The hub's cache names a file by the digest that the hub gave: SHA-256, or git's for small ones. Elsewhere a file
    is only opened as what it is: a safetensors file that was cut off, or JSON that is none, is damaged.
    Raises PermanentModelError where the disk does not give a file back.
    """
    for path in weight_files(place):
        sha256 = _sha256(path)
        published = path.readlink().name if path.is_symlink() else ""
        if SHA256.fullmatch(published):
            is_good = published == sha256
        elif GIT_SHA1.fullmatch(published):
            is_good = published == _git_sha1(path)
        else:
            yield WeightFile(path, sha256, State.HASHED if _opens(path) else State.DAMAGED)
            continue
        yield WeightFile(path, sha256, State.PUBLISHED if is_good else State.DAMAGED)


def weight_files(place: Path) -> list[Path]:
    """The files that `weights_digest` is over, by name."""
    if place.is_file():
        return [place]
    return sorted(path for pattern in WEIGHT_FILES for path in place.glob(pattern))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PermanentModelError(f"{path} cannot be read ({error.strerror}); nothing was changed") from error


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def _opens(path: Path) -> bool:
    """Whether a file is what its name says, as far as can be told without a digest."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy"):
                return True
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        if path.suffix == CHECKPOINT:  # an archive has its table at its end; before torch 1.6 they were plain pickles
            with path.open("rb") as file:
                return zipfile.is_zipfile(file) or (file.seek(0) == 0 and file.read(1) == b"\x80")
    except (SafetensorError, ValueError):
        return False
    return True


def _local(weights: str) -> Path:
    if weights.startswith(BUNDLED):
        return Path(__file__).parent / "demo" / weights.removeprefix(BUNDLED)
    try:
        return Path(weights).expanduser()
    except RuntimeError:  # of somebody who is not known here
        return Path(weights)


def _is_complete(place: Path, files: tuple[str, ...]) -> bool:
    if place.suffix == CHECKPOINT:
        return place.is_file()
    asked = {path for pattern in files for path in place.glob(pattern)}  # a link whose blob was deleted is one too
    asked |= {place / "config.json", *(_shards(place) if "*.safetensors" in files else ())}
    return all(path.is_file() for path in asked)


def _shards(place: Path) -> set[Path]:
    """The files that hold the weights: those of the index, or the one of the usual name where there is none."""
    index = place / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names = {path.name for path in place.glob("*.safetensors")} or {"model.safetensors"}
    return {place / name for name in names}


def _nothing_at(weights: str) -> str:
    return (
        f"no weights at {weights!r}: a folder with config.json and model.safetensors is needed, a {CHECKPOINT} file "
        "of the original SAM, or a hub id such as IDEA-Research/grounding-dino-tiny"
    )


def _snapshot(hub_id: str, files: tuple[str, ...], *, cached: bool, is_quiet: bool = True) -> Path | None:
    """The hub's snapshot folder; None where the cache was asked and has none."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if is_quiet:
        disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=list(files),
                local_files_only=cached,
                etag_timeout=HUB_TIMEOUT_S,
            )
        )
    except GatedRepoError as exc:
        raise PermanentModelError(
            f"weights {hub_id!r} are given only to those who accepted their licence: ask for access at "
            f"https://huggingface.co/{hub_id}, then log in (`hf auth login`, or set HF_TOKEN) and run again"
        ) from exc
    except (OSError, ValueError, HfHubHTTPError) as exc:
        if cached and isinstance(exc, LocalEntryNotFoundError):
            return None
        cause = "HF_HUB_OFFLINE is set" if is_offline_mode() else str(exc).partition("\n")[0]
        raise PermanentModelError(
            f"weights {hub_id!r} are not on this machine and could not be downloaded ({cause}); "
            "run once with network, or give a local folder"
        ) from exc
