"""Hostile files, poison and models out of order, in the amounts of every submission."""

from __future__ import annotations

import torture_media

SEED = 20261121


def test_malformed_media_are_refused_with_a_reason_within_the_memory_allowed() -> None:
    assert torture_media.malformed_media(SEED, 500) == 0


def test_malformed_answers_of_models_are_refused_or_labelled_soundly() -> None:
    assert torture_media.malformed_answers(SEED, 500) == 0


def test_rows_that_end_the_models_or_the_decoder_are_set_aside_alone() -> None:
    assert torture_media.poison(SEED, 10) == 0


def test_batches_that_memory_does_not_hold_come_out_the_same() -> None:
    assert torture_media.out_of_memory(SEED, 50) == 0
