"""Bounds and isolation: what runs ahead, what waits, and what a dying worker costs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from autolabel.core.rows import Reason
from autolabel.engine import Asking, Background, in_batches, prefetch
from autolabel.errors import TransientServiceError
from autolabel.protocols import Clip, ClipAnswer, ClipFailure
from platform_fakes import ScriptedInference


def clip(name: str) -> Clip:
    return Clip(name, Path(name), range(1), 10, 10)


def infer_isolated(inference: ScriptedInference, clips: Sequence[Clip]) -> list[ClipAnswer]:
    asking = Asking(inference)
    asking.ask(clips)
    return asking.answer()


def test_items_come_back_in_order_with_what_was_fetched() -> None:
    assert list(prefetch(range(20), lambda i: i * i, threads=3, ahead=5)) == [(i, i * i) for i in range(20)]


def test_no_more_is_fetched_ahead_than_allowed() -> None:
    fetched: list[int] = []
    stream = prefetch(range(100), lambda i: fetched.append(i), threads=2, ahead=4)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert max(fetched) < 5


def test_the_first_failed_fetch_ends_the_stream() -> None:
    def fetch(i: int) -> int:
        if i == 2:
            raise TransientServiceError("no")
        return i

    with pytest.raises(TransientServiceError):
        list(prefetch(range(5), fetch, threads=1, ahead=2))


def test_fetches_under_way_are_abandoned_before_they_are_waited_for() -> None:
    abandoned = threading.Event()
    stream = prefetch(range(2), lambda i: i == 0 or abandoned.wait(600), 2, ahead=2, abandon=abandoned.set)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert abandoned.is_set()


def test_batches_hold_everything_once() -> None:
    assert list(in_batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_after_a_death_every_clip_of_the_batch_runs_alone_and_only_the_culprit_fails() -> None:
    inference = ScriptedInference(poison=frozenset({"bad"}))
    answers = infer_isolated(inference, [clip("a"), clip("bad"), clip("b")])
    assert [type(answer) for answer in answers] == [list, ClipFailure, list]
    assert isinstance(answers[1], ClipFailure)
    assert answers[1].reason == Reason.CRASH
    assert inference.asked == [["a", "bad", "b"], ["a"], ["bad"], ["bad"], ["bad"], ["b"]]


def test_after_a_death_the_clips_of_every_open_question_run_alone() -> None:
    inference = ScriptedInference(poison=frozenset({"bad"}))
    asking = Asking(inference)
    asking.ask([clip("a"), clip("bad")])
    asking.ask([clip("b"), clip("c")])
    first, second = asking.answer(), asking.answer()
    assert [type(answer) for answer in (*first, *second)] == [list, ClipFailure, list, list]
    assert all(len(asked) == 1 for asked in inference.asked[2:])


def test_what_is_asked_after_settling_is_alone_and_the_answers_are_still_given() -> None:
    inference = ScriptedInference()
    asking = Asking(inference)
    asking.ask([clip("a")])
    asking.ask([clip("b")])
    asking.settle()
    assert inference.asked == [["a"], ["b"]]
    assert [len(asking.answer()), len(asking.answer())] == [1, 1]


def test_a_clip_that_the_models_cannot_take_fails_alone_and_is_asked_again_in_a_fresh_process() -> None:
    inference = ScriptedInference(odd=frozenset({"odd"}))
    answers = infer_isolated(inference, [clip("a"), clip("odd"), clip("b")])
    assert [answer.reason for answer in answers if isinstance(answer, ClipFailure)] == [Reason.INVALID_OUTPUT]
    assert inference.asked == [["a", "odd", "b"], ["a"], ["odd"], ["odd"], ["b"]]


def test_a_device_that_breaks_is_given_a_fresh_process_and_no_clip_is_blamed() -> None:
    inference = ScriptedInference()
    for together in ([clip("a"), clip("b")], [clip("film")]):
        inference.breaks_at = 0
        assert [type(answer) for answer in infer_isolated(inference, together)] == [list] * len(together)


def test_a_list_closes_with_the_item_that_makes_it_heavy_enough() -> None:
    assert list(in_batches([1, 1, 5, 9, 1], 4, lambda item: item)) == [[1, 1, 5], [9], [1]]


def test_background_work_keeps_its_order_and_finishes_before_the_block_ends() -> None:
    seen: list[int] = []
    with Background(seen.append, depth=2) as background:
        for i in range(10):
            background.put(i)
    assert seen == list(range(10))


def test_an_error_in_the_background_surfaces() -> None:
    def fail(_: int) -> None:
        raise TransientServiceError("down")

    with pytest.raises(TransientServiceError), Background(fail, depth=1) as background:
        background.put(1)


def test_put_waits_while_too_much_is_waiting() -> None:
    gate, seen = threading.Event(), []

    def work(i: int) -> None:
        gate.wait(5)
        seen.append(i)

    def feed() -> None:
        with Background(work, depth=1) as background:
            for i in range(3):
                background.put(i)
                fed.append(i)

    fed: list[int] = []
    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(0.2)
    assert fed == [0]
    gate.set()
    feeder.join(5)
    assert seen == [0, 1, 2]
