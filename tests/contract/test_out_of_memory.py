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


def test_it_is_told_in_one_line_and_holds_on_to_nothing() -> None:
    with pytest.raises(PermanentOutOfMemoryError) as caught:
        fill(20)

    assert str(caught.value) == "the device has too little memory: CUDA out of memory. Tried to allocate 20.00 GiB"
    assert caught.value.__context__ is None


def test_an_answer_comes_through() -> None:
    assert fill(1) == 1
