"""What the families share in loading: transformers' models from a local folder, safely, quietly, all or nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from transformers.utils import logging as transformers_logging

from autolabel.errors import (
    AutolabelError,
    PermanentInferenceError,
    PermanentModelError,
    PermanentOutOfMemoryError,
    PermanentUsageError,
)
from autolabel.models.placement import Placement, Precision

# Below this, a second thread costs more in hand-overs than it brings: the bundled models ran 3 times slower on two.
SMALL_MODEL_PARAMETERS = 20_000_000
GIB = 1 << 30
# Errors for too little memory that are not torch.OutOfMemoryError: those of the CPU, of cuBLAS, cuDNN and the driver.
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

P = ParamSpec("P")
R = TypeVar("R")


def load_pretrained(
    model_class: Any, image_processor_class: Any, model_type: str, folder: Path, placement: Placement
) -> tuple[Any, Any]:
    """A folder's (model, image processor); the model where `placement` says, for inference.

    - `model_class`: one of transformers' Auto classes; `model_type`: what config.json must say.
    - `image_processor_class`: the family's Pillow one, so that machines with and without torchvision see the same
      pixels; transformers' Auto class picks by what is installed, and before 5.23 refuses without torchvision.
    - Only safetensors, only local files, no code from the folder. A weight that is missing would be random: refused.

    Raises PermanentModelError in one line, PermanentUsageError for a device that is not here.
    A small model on the CPU sets torch to one thread.
    """
    _device(placement.device)  # a wrong one is told before gigabytes are read
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with loading(folder):
        require_type(folder, model_type)
        model, info = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=DTYPES[placement.precision],
            output_loading_info=True,
        )
        _require_whole(info["missing_keys"])
        image_processor = image_processor_class.from_pretrained(folder, local_files_only=True)
        model = place(model, placement.device)
    return model, image_processor


def place(model: Any, device: str) -> Any:
    """A network on the device of that name, for inference; a small one on the CPU sets torch to one thread.

    Float32 is float32 on a GPU too: with TF32, which torch allows in convolutions, a frame's scores would move by
    more than the 1e-4 that is promised of any batch.
    """
    where = _device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if where.type == "cpu" and sum(weight.numel() for weight in model.parameters()) < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    return model.to(where).eval()


class CudaMemory:
    """`batches.Memory` of a CUDA device; what torch keeps for later counts as free."""

    def __init__(self, where: torch.device) -> None:
        self._where = where
        self._held_bytes = 0

    def start(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._where)
        self._held_bytes = torch.cuda.memory_allocated(self._where)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self._where) - self._held_bytes

    def free_bytes(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._where)
        return free + torch.cuda.memory_reserved(self._where) - torch.cuda.memory_allocated(self._where)


def memory_of(device: str) -> CudaMemory | None:
    """None where the device does not tell."""
    where = _device(device)
    return CudaMemory(where) if where.type == "cuda" else None


def describe_device(name: str) -> str:
    """`cuda:0, NVIDIA ..., 70 of 80 GiB free` or `cpu, 8 cores, 12 GiB free`. Raises PermanentUsageError."""
    where = _device(name)
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        return f"{where}, {torch.cuda.get_device_name(where)}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{where}, {os.cpu_count()} cores, {free / GIB:.1f} GiB free"


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as exc:
        cause = str(exc).partition("\n")[0][:120]
        raise PermanentUsageError(f"there is no device {name!r} here ({cause}); see AUTOLABEL_DEVICE") from exc
    return torch.device(name)


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """What is raised on files that are damaged, missing or do not fit -> one line, PermanentModelError.

    Of any type: a configuration of the wrong shape fails wherever transformers first takes it for the right one.
    """
    try:
        yield
    except AutolabelError:
        raise
    except Exception as exc:
        cause = str(exc).partition("\n")[0] or type(exc).__name__
        raise PermanentModelError(f"cannot load the weights in {folder}: {cause}") from exc


def telling_of_memory(ask: Callable[P, R]) -> Callable[P, R]:
    """Torch's error for a device without enough memory -> PermanentOutOfMemoryError, with the device's memory freed.

    The new error is raised where the old one is gone: its traceback holds on to all that the failed pass computed.
    """

    @wraps(ask)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return ask(*args, **kwargs)
        except RuntimeError as exc:
            if not isinstance(exc, torch.OutOfMemoryError) and not NO_MEMORY.search(str(exc)):
                raise
            cause = str(exc).partition("\n")[0]
        torch.cuda.empty_cache()
        raise PermanentOutOfMemoryError(f"the device has too little memory: {cause}")

    return told


def require_type(folder: Path, model_type: str) -> None:
    """Raises ValueError where config.json speaks of another type; call it within `loading`."""
    found = json.loads((folder / "config.json").read_text()).get("model_type")
    if found != model_type:
        raise ValueError(f"they are of type {found!r}, {model_type!r} is needed")


def _require_whole(missing_keys: Collection[str]) -> None:
    if missing_keys:
        raise ValueError(f"{len(missing_keys)} weights are missing, first {min(missing_keys)!r}")


def require_finite(values: torch.Tensor, what: str) -> None:
    """Raises PermanentInferenceError, naming `what`, where a model's answer holds NaN or infinity."""
    if not torch.isfinite(values).all():
        raise PermanentInferenceError(f"the model's {what} hold NaN or infinity; the weights may be damaged")
