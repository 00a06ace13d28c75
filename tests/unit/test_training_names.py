"""What the small models are trained and judged by: held-out names stay apart, and the questions are hard."""

from __future__ import annotations

import numpy as np

from training.names import HELD_OUT, NAMES, SEEN, akin, asked, split


def test_every_word_is_seen_in_training_and_no_held_out_name_is() -> None:
    assert set(SEEN) | set(HELD_OUT) == set(NAMES)
    assert not set(SEEN) & set(HELD_OUT)
    assert 0.18 < len(HELD_OUT) / len(NAMES) < 0.22
    for part in (0, 1):
        assert {split(name)[part] for name in SEEN} == {split(name)[part] for name in NAMES}


def test_a_frame_is_asked_for_what_is_there_among_names_that_are_easily_confused() -> None:
    there = ["steel clamp", "gold needle holder", "steel clamp"]

    phrases = asked(there, np.random.default_rng(3))

    assert len(phrases) == len(set(phrases)) == 8
    assert set(there) <= set(phrases)
    assert all(phrase in there or any(akin(phrase, name) for name in there) for phrase in phrases)


def test_a_frame_without_a_tool_is_asked_for_eight_names_too() -> None:
    assert len(set(asked([], np.random.default_rng(3)))) == 8
