"""Where weights lie on this disk, and the digest of what lies there. No torch; the only place that asks the hub."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from autolabel.errors import PermanentModelError

logger = logging.getLogger(__name__)

BUNDLED = "bundled:"
# Nothing else is downloaded, loaded or hashed: no pickles, no code, no model cards.
TEXT_FILES = ("*.json", "vocab.txt")
WEIGHT_FILES = ("*.safetensors", *TEXT_FILES)
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
HUB_TIMEOUT_S = 10.0


def locate(weights: str, files: tuple[str, ...] = WEIGHT_FILES) -> Path:
    """`weights` (a folder, a hub id or `bundled:NAME`) -> the folder that holds them.

    A hub id is looked up in the local cache first; only what is not there is downloaded. With `files=TEXT_FILES` the
    folder need only hold the configuration and the tokeniser: a few hundred kB.
    Raises PermanentModelError, saying which weights and what to do.
    """
    if weights.startswith(BUNDLED):
        folder = Path(__file__).parent / "demo" / weights.removeprefix(BUNDLED)
    elif (local := Path(weights).expanduser()).is_dir() or not HUB_ID.fullmatch(weights):
        folder = local
    else:
        folder = _from_hub(weights, files)
    if not _is_complete(folder, files):
        raise PermanentModelError(
            f"no weights at {weights!r}: a folder with config.json and model.safetensors is needed, "
            "or a hub id such as IDEA-Research/grounding-dino-tiny"
        )
    return folder


def is_here(weights: str) -> bool:
    """Whether `locate` would find them without a download. Raises PermanentModelError where it could find none."""
    local = weights.startswith(BUNDLED) or Path(weights).expanduser().is_dir() or not HUB_ID.fullmatch(weights)
    cached = None if local else _snapshot(weights, WEIGHT_FILES, cached=True)
    return local or (cached is not None and _is_complete(cached, WEIGHT_FILES))


def weights_digest(weights: str) -> str:
    """SHA-256 (hex) over weights, configuration and tokeniser, by name and content, as they lie on disk.

    A hub id and a plain copy of its files have one digest. Raises what `locate` raises.
    """
    total = hashlib.sha256()
    for path in _weight_files(locate(weights)):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{content}\n".encode())
    return total.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in WEIGHT_FILES for path in folder.glob(pattern))


def _is_complete(folder: Path, files: tuple[str, ...]) -> bool:
    needs_weights = "*.safetensors" in files
    return (folder / "config.json").is_file() and (not needs_weights or any(folder.glob("*.safetensors")))


def _from_hub(hub_id: str, files: tuple[str, ...]) -> Path:
    cached = _snapshot(hub_id, files, cached=True)
    if cached is not None and _is_complete(cached, files):
        return cached
    logger.info("downloading %s from the hub", hub_id)
    downloaded = _snapshot(hub_id, files, cached=False)
    assert downloaded is not None  # a failed download raises
    return downloaded


def _snapshot(hub_id: str, files: tuple[str, ...], *, cached: bool) -> Path | None:
    """The hub's snapshot folder; None where the cache was asked and has none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

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
    except (OSError, ValueError, HfHubHTTPError) as exc:
        if cached and isinstance(exc, LocalEntryNotFoundError):
            return None
        cause = str(exc).partition("\n")[0]
        raise PermanentModelError(
            f"weights {hub_id!r} are not on this machine and could not be downloaded ({cause}); "
            "run once with network, or give a local folder"
        ) from exc
