"""What names become to a tokeniser: the bundled one, and BERT's own vocabulary where it lies beside the checkout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast

from autolabel.core.prompts import normalise, pack_prompts, prompt_spans
from autolabel.models import count_tokens
from autolabel.models.grounding_dino import DELIMITER_IDS
from autolabel.models.weights import locate

BUNDLED = locate("bundled:detector")
VOCABULARY = Path(__file__).parents[3] / "shared" / "data" / "tokenizer" / "bert-base-uncased-vocab.txt"
NO_VOCABULARY = pytest.mark.skipif(not VOCABULARY.is_file(), reason="BERT's vocabulary is not beside this checkout")


@pytest.fixture(scope="module", params=["bundled", pytest.param("bert", marks=NO_VOCABULARY)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "bundled":
        return BUNDLED
    folder = tmp_path_factory.mktemp("bert")
    shutil.copy(BUNDLED / "config.json", folder)
    words = VOCABULARY.read_text(encoding="utf-8").splitlines()
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, do_lower_case=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def words_of_spans(tokenizer: Any, prompts: list[str]) -> list[str]:
    """What the tokens of each span say, pieces put together, without spaces."""
    ids = tokenizer(". ".join(prompts) + ".").input_ids
    spans = prompt_spans(ids, DELIMITER_IDS)
    pieces = [tokenizer.convert_ids_to_tokens([ids[i] for i in span]) for span in spans]
    return ["".join(piece.removeprefix("##") for piece in of_span) for of_span in pieces]


@pytest.mark.parametrize(
    "names",
    [
        ["dog", "hot dog", "cat"],
        ["cat", "cats", "caterpillar"],
        ["van", "caravan", "van"],
        ["T-bar (left)", "a/b", "it's"],
        ["5.0 mm trocar?", "St. Bernard", "e.g. this"],
        ["[SEP]", "[CLS] dog", "[PAD] [MASK]"],
        ["-dog-", "--cat", "DOG"],
        ["forklift_truck", "Näh-nadel", "naïve café"],
        ["a" * 90, "dog"],
    ],
    ids=lambda names: names[0][:12],
)
def test_a_prompts_span_holds_its_own_letters(folder: Path, tokenizer: Any, names: list[str]) -> None:
    prompts = [normalise(name) for name in names]

    said = words_of_spans(tokenizer, prompts)

    plain = str.maketrans("äïé", "aie", " ")
    wanted = [prompt.translate(plain) for prompt in prompts]
    assert len(said) == len(wanted)
    assert all(mine == own or "[UNK]" in mine for mine, own in zip(said, wanted, strict=True))
    assert not any(map(count_tokens("grounding_dino", str(folder), prompts).is_unreadable, range(len(prompts))))


@pytest.mark.parametrize(
    "names", [["🐕", "dog"], ["dog", "ᚠᚢ"], ["dog", "x" * 300]], ids=["emoji", "runes", "300 letters"]
)
def test_what_the_vocabulary_lacks_is_known_to_be_unreadable(folder: Path, names: list[str]) -> None:
    tokens = count_tokens("grounding_dino", str(folder), [normalise(name) for name in names])

    assert [tokens.is_unreadable(i) for i in range(2)] == [name != "dog" for name in names]


def test_the_prompts_of_300_classes_are_packed_evenly_and_each_has_its_span(folder: Path, tokenizer: Any) -> None:
    prompts = [f"{colour} {tool} no {i}" for i in range(30) for colour in ("red", "blue") for tool in "abcde"]
    tokens = count_tokens("grounding_dino", str(folder), prompts)

    passes = pack_prompts(tokens)

    totals = [sum(tokens.counts[i] for i in columns) for columns in passes]
    assert len(prompts) == 300
    assert len(passes) == -(-sum(tokens.counts) // tokens.budget)
    assert max(totals) - min(totals) <= 2 * max(tokens.counts)
    for columns in passes:
        texts = [prompts[i] for i in columns]
        assert words_of_spans(tokenizer, texts) == [text.replace(" ", "") for text in texts]


@given(names=st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_spans_part_all_tokens_but_the_delimiters_one_span_a_prompt(tokenizer: Any, names: list[str]) -> None:
    prompts = [prompt for name in names if any(map(str.isalnum, prompt := normalise(name)))]
    ids = tokenizer(". ".join(prompts) + ".").input_ids if prompts else []

    spans = prompt_spans(ids, DELIMITER_IDS)

    alone = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    assert [[ids[i] for i in span] for span in spans] == alone
    assert [i for span in spans for i in span] == [i for i, token in enumerate(ids) if token not in DELIMITER_IDS]
