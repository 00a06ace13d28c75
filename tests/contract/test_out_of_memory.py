"""What torch raises where a device has too little memory, as everybody else sees it."""

from __future__ import annotations

import pytest
import torch

from autolabel.errors import PermanentOutOfMemoryError
from autolabel.models.runtime import telling_of_memory


@telling_of_memory
def fill(gigabytes: int) -> int:
    if gigabytes > 1:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {gigabytes}.00 GiB\nand much advice")
    return gigabytes


@telling_of_memory
def fail(message: str) -> None:
    raise RuntimeError(message)


def test_it_is_told_in_one_line_and_holds_on_to_nothing() -> None:
    with pytest.raises(PermanentOutOfMemoryError) as caught:
        fill(20)

    assert str(caught.value) == "the device has too little memory: CUDA out of memory. Tried to allocate 20.00 GiB"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ...",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    ],
)
def test_it_is_told_too_by_errors_that_torch_has_no_type_for(message: str) -> None:
    with pytest.raises(PermanentOutOfMemoryError, match="too little memory") as caught:
        fail(message)

    assert "\n" not in str(caught.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fail("mat1 and mat2 shapes cannot be multiplied")


def test_an_answer_comes_through() -> None:
    assert fill(1) == 1
