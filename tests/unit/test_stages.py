"""What a run's speed says: seconds and share of the time of each stage, and the one that all others wait for."""

from __future__ import annotations

import json
from contextlib import suppress

from autolabel.stages import Meter, Stage, speed_of, speed_text


class Clock:
    def __init__(self) -> None:
        self.now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


def test_a_stage_is_busy_for_as_long_as_it_is_at_work_also_where_that_fails() -> None:
    meter = Meter(clock := Clock())
    with suppress(ZeroDivisionError), meter.at(Stage.INFER):
        clock.now_s += 3
        raise ZeroDivisionError
    meter.add(Stage.INFER, 1.0)
    clock.now_s += 5
    speed = meter.speed(16)
    assert (speed["seconds"], speed["frames_per_second"]) == (8.0, 2.0)
    assert speed["stages"]["infer"] == {"busy_s": 4.0, "utilisation": 0.5}


def test_a_start_forgets_what_was_before() -> None:
    meter = Meter(clock := Clock())
    meter.add(Stage.DECODE, 2.0)
    clock.now_s += 7
    meter.start()
    clock.now_s += 1
    speed = meter.speed(1)
    assert (speed["seconds"], speed["stages"]["decode"]["busy_s"]) == (1.0, 0.0)


def test_the_limit_is_the_stage_that_is_busy_for_the_largest_share_of_its_threads_time() -> None:
    busy_s = {Stage.DOWNLOAD: 30.0, Stage.INFER: 9.0, Stage.DELIVER: 5.0}
    speed = speed_of(10.0, busy_s, 100, {Stage.DOWNLOAD: 4})
    assert (speed["limit"], speed["stages"]["download"]["utilisation"]) == ("infer", 0.75)
    assert speed_of(10.0, busy_s, 100, {})["limit"] == "download"


def test_a_stages_share_is_that_of_the_most_threads_it_had() -> None:
    meter = Meter(clock := Clock())
    meter.on_threads(Stage.DOWNLOAD, 4)
    meter.on_threads(Stage.DOWNLOAD, 1)
    meter.add(Stage.DOWNLOAD, 20.0)
    clock.now_s += 10
    assert meter.speed(1)["stages"]["download"]["utilisation"] == 0.5


def test_people_read_it_in_one_line() -> None:
    busy_s = {Stage.DOWNLOAD: 4.1, Stage.INFER: 9.7, Stage.DELIVER: 5.0}
    assert speed_text(speed_of(10.0, busy_s, 123, {})) == (
        "12.3 frames a second; the models were the limit (busy 97 % of the time); "
        "loading the models 0 %, downloads 41 %, decoding 0 %, the ledger 0 %, assembling 0 %, delivery 50 %"
    )


def test_a_run_that_inferred_nothing_had_no_limit_and_says_nothing() -> None:
    speed = speed_of(10.0, {Stage.DELIVER: 5.0}, 0, {})
    assert (speed["limit"], speed_text(speed), speed_text({})) == (None, "", "")
    assert json.loads(json.dumps(speed)) == speed
    assert speed_of(0.0, {}, 0, {})["frames_per_second"] == 0.0


def test_a_stage_that_was_idle_for_half_of_the_time_is_not_called_the_limit() -> None:
    assert "the models were the busiest (busy 40 % of the time)" in speed_text(
        speed_of(10.0, {Stage.INFER: 4.0}, 9, {})
    )
