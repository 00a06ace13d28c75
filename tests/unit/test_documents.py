"""Files that people write: what is wrong is named with its file, its line and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolabel.documents import find, read_document
from autolabel.errors import PermanentUsageError
from autolabel.prompt_map import PromptMap


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "mine.yaml:1: is no YAML: "),
        ("", "mine.yaml: the file: Input should be a valid dictionary"),
        ("classes: {}\ndistractor: [dog]", "mine.yaml:2: distractor: no such key; did you mean 'distractors'?"),
        (
            "classes:\n  Car:\n    thresold: 1",
            "mine.yaml:3: classes.Car.thresold: no such key; did you mean 'threshold'?",
        ),
        ("classes:\n  Car:\n    threshold: 7", "mine.yaml:3: classes.Car.threshold: Input should be less than"),
        ("classes:\n  Car:\n    shape: circle", "mine.yaml:3: classes.Car.shape: Input should be 'bounding_box'"),
        ("classes:\n  Car:\n    prompts:\n    - car\n    - 7", "mine.yaml:5: classes.Car.prompts.1: Input should"),
        ("classes:\n  Car:\n\n  Bus: {}", "mine.yaml:2: classes.Car: Input should be a valid dictionary"),
        ("classes:\n  Car: {}\n  Car: {}", "mine.yaml:3: classes.Car: given twice, first on line 2"),
        ("distractors: []\n", "mine.yaml: classes: Field required"),
        ("classes: {1: {}}", "mine.yaml:1: classes.1"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)

    with pytest.raises(PermanentUsageError) as caught:
        read_document(path, PromptMap)

    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"classes: {a: 2026-13-45}", b"classes: &all {Car: *all}"],
    ids=["no text", "no date", "endless"],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)

    with pytest.raises(PermanentUsageError, match=r"mine.yaml cannot be read as YAML: .+") as caught:
        read_document(path, PromptMap)

    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(PermanentUsageError, match="'retial'; did you mean 'retail'"):
        find("ontologies", "retial")
