from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.prompts import ClassPlan, PromptPlan, normalise, pack_prompts, prompt_spans

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
    ],
)
def test_names_become_lower_case_phrases(written: str, prompt: str) -> None:
    assert normalise(written) == prompt


@given(st.text())
def test_a_normalised_prompt_ends_no_phrase_and_stays_as_it_is(text: str) -> None:
    prompt = normalise(text)

    assert not set("._?\n\t") & set(prompt)
    assert normalise(prompt) == prompt


@given(st.lists(st.integers(1, 20)), st.integers(20, 60))
def test_chunks_fit_the_budget_hold_each_prompt_once_in_order_and_are_as_full_as_can_be(
    costs: list[int], budget: int
) -> None:
    chunks = pack_prompts(costs, budget)

    totals = [sum(costs[i] for i in chunk) for chunk in chunks]
    assert [i for chunk in chunks for i in chunk] == list(range(len(costs)))
    assert all(0 < total <= budget for total in totals)
    assert all(total + costs[following.start] > budget for total, following in zip(totals, chunks[1:], strict=False))


def test_a_prompt_that_fits_no_chunk_is_named_with_the_limit() -> None:
    with pytest.raises(ValueError, match="prompt 1 takes 9 tokens, the model reads at most 8"):
        pack_prompts([3, 9], 8)


@given(st.lists(st.lists(st.integers(2000, 3000), min_size=1, max_size=5)))
def test_spans_point_at_each_prompts_tokens(prompts: list[list[int]]) -> None:
    ids = [CLS, *(token for prompt in prompts for token in (*prompt, STOP)), SEP]

    spans = prompt_spans(ids, DELIMITERS)

    assert [[ids[i] for i in span] for span in spans] == prompts
