"""What a call costs on a device, and the two figures behind a floor: FLOPs, and the rate of matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from autolabel.models.placement import Precision
from autolabel.models.runtime import DTYPES
from benching.speed_report import Cost

LARGEST_SIDE = 16384
LONG_ENOUGH_S = 0.5

Result = TypeVar("Result")


class Meter:
    """Costs on one device. `seconds` is its honest clock.

    That is wall time on a GPU, all its work done; on the CPU the process's own time, since other programs share it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"

    def __call__(self, call: Callable[[], Result]) -> tuple[Result, Cost]:
        self._wait()
        held = self._restart_peak()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        result = call()
        self._wait()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return result, Cost(wall_s, cpu_s, max(0, self._peak() - held))

    def seconds(self, cost: Cost) -> float:
        return cost.wall_s if self._on_gpu else cost.cpu_s

    def matrix_rate(self, precision: Precision) -> float:
        """FLOP a second of the largest square product that is worth a look: as good as this device gets."""
        best, side = 0.0, 1024
        while side <= LARGEST_SIDE:
            square = torch.randn(side, side, device=self._device, dtype=DTYPES[precision])
            took_s = min(self.seconds(self(partial(torch.mm, square, square))[1]) for _ in range(4))
            best = max(best, 2 * side**3 / took_s)
            if took_s > LONG_ENOUGH_S:
                break
            side *= 2
        return best

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)

    def _restart_peak(self) -> int:
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the high-water mark starts afresh
        return _resident("VmRSS")

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) if self._on_gpu else _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) << 10


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Torch's own formulas, without its counter's look at modules, which fails on parameters that are arguments."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        result = func(*args, **kwargs)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


FORMULAS = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def count_flops(call: Callable[[], object]) -> int:
    """Two a multiply-add, of matrix products, convolutions and attention; all else is little beside them."""
    with _Flops() as counter:
        call()
    total: int = counter.total
    return total
