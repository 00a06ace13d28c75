from __future__ import annotations

import base64
import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.identity import digest, object_hash, unit_interval

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
keys = st.tuples(texts, texts, texts, st.integers(0, 10**6), st.integers(0, 9))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(keys)
def test_an_object_hash_is_six_bytes_in_base64_and_always_the_same(key: tuple[str, str, str, int, int]) -> None:
    name = object_hash(*key)

    assert len(base64.b64decode(name, validate=True)) == 6
    assert re.fullmatch(r"[A-Za-z0-9+/]{8}", name)
    assert object_hash(*key) == name


@given(keys, keys)
def test_another_recipe_row_class_slot_or_salt_is_another_hash(
    key: tuple[str, str, str, int, int], other: tuple[str, str, str, int, int]
) -> None:
    assert (object_hash(*key) == object_hash(*other)) == (key == other)


def test_object_hashes_are_pinned_since_ledgers_and_platforms_hold_them() -> None:
    assert object_hash("recipe", "row", "class", 0) == "PmxR0C/o"


@given(st.dictionaries(texts, json_values, max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))

    assert digest(backwards) == digest(value)


def test_a_digest_tells_values_apart() -> None:
    values = [{}, {"a": 1}, {"a": "1"}, {"a": None}, {"a": [1]}, {"b": 1}]

    assert len({digest(value) for value in values}) == len(values)


@given(st.lists(st.uuids(), min_size=400, max_size=400, unique=True))
def test_data_units_spread_evenly_over_the_unit_interval(units: list[uuid.UUID]) -> None:
    places = [unit_interval("holdout", str(unit)) for unit in units]

    assert all(0 <= place < 1 for place in places)
    assert 0.05 < sum(place < 0.15 for place in places) / len(places) < 0.3
