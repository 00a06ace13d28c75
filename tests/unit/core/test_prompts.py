from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.prompts import ClassPlan, PromptPlan, TokenCounts, normalise, pack_prompts, prompt_spans

CLS, SEP, STOP = 101, 102, 1012
DELIMITERS = frozenset({CLS, SEP, STOP})


def test_columns_run_through_the_classes_and_then_the_distractors() -> None:
    car = ClassPlan("f1", "Car", "bounding_box", ("car", "taxi"), 0.3, 10)
    dog = ClassPlan("f2", "Dog", "bitmask", ("dog",), 0.3, 10)

    plan = PromptPlan((car, dog), ("statue",))

    assert plan.prompts == ("car", "taxi", "dog", "statue")
    assert plan.class_of_prompt == (0, 0, 1, -1)


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        ("Traffic_Light", "traffic light"),
        ("  St. Bernard? ", "st bernard"),
        ("t-shirt", "t-shirt"),
        ("a\n\tb", "a b"),
        ("..?", ""),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("5.0 mm trocar?", "5 0 mm trocar"),
        ("-Dog-", "-dog-"),
        ("[SEP] [MASK]", "[sep] [mask]"),
    ],
)
def test_names_become_lower_case_phrases(written: str, prompt: str) -> None:
    assert normalise(written) == prompt


@given(st.text())
def test_a_normalised_prompt_ends_no_phrase_and_stays_as_it_is(text: str) -> None:
    prompt = normalise(text)

    assert not set("._?\n\t") & set(prompt)
    assert normalise(prompt) == prompt


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(20, 60), st.none() | st.integers(1, 9))
def test_passes_keep_to_both_limits_hold_each_prompt_once_in_order_and_are_as_few_as_can_be(
    costs: list[int], budget: int, per_pass: int | None
) -> None:
    passes = pack_prompts(TokenCounts(tuple(costs), budget), per_pass)

    fewest, used, count = 0, budget, 0
    for cost in costs:  # filling each to the brim
        is_full = used + cost > budget or count == per_pass
        fewest, used, count = (fewest + 1, cost, 1) if is_full else (fewest, used + cost, count + 1)
    assert [i for columns in passes for i in columns] == list(range(len(costs)))
    assert all(0 < sum(costs[i] for i in columns) <= budget for columns in passes)
    assert all(len(columns) <= (per_pass or len(costs)) for columns in passes)
    assert len(passes) == fewest or not costs


@given(st.integers(1, 80), st.integers(1, 30))
def test_prompts_of_one_length_are_spread_evenly_over_the_passes(prompts: int, per_pass: int) -> None:
    sizes = [len(columns) for columns in pack_prompts(TokenCounts((3,) * prompts, 254), per_pass)]

    assert max(sizes) - min(sizes) <= 1


def test_a_prompt_that_fits_no_pass_is_named_with_the_limit() -> None:
    with pytest.raises(ValueError, match="prompt 1 takes 9 tokens, the model reads at most 8"):
        pack_prompts(TokenCounts((3, 9), 8))


def test_a_prompt_of_which_nothing_can_be_read_is_named() -> None:
    with pytest.raises(ValueError, match="the model knows no word or letter of prompt 1"):
        pack_prompts(TokenCounts((3, 3), 8, unknown=(1, 2)))


@given(st.lists(st.lists(st.integers(2000, 3000), min_size=1, max_size=5)))
def test_spans_point_at_each_prompts_tokens(prompts: list[list[int]]) -> None:
    ids = [CLS, *(token for prompt in prompts for token in (*prompt, STOP)), SEP]

    spans = prompt_spans(ids, DELIMITERS)

    assert [[ids[i] for i in span] for span in spans] == prompts
