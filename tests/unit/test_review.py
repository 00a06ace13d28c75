"""What a review makes of what people did: rows and objects that add up, who decided, and the time it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest

from autolabel.core.detections import Detection
from autolabel.core.rows import Reason, Stage
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.values import Decision, Fate, TimeEntry, TimeRatio, TooFew, Track
from autolabel.ledger import Ledger
from autolabel.operate import read_run
from autolabel.protocols import Receipt, Reviewed
from autolabel.review import (
    GONE,
    NOT_YET,
    PASSED,
    REVIEWED,
    UNDONE,
    UNPUBLISHED,
    UNREADABLE,
    Fates,
    Review,
    describe,
    review,
)
from autolabel.saved_time import NO_HOLDOUT
from autolabel.states import Job, Move, State
from ledgers import open_ledger
from platform_fakes import ANNOTATE, CAR, DONE, RECIPE, REVIEW, ROAD, FakeInspector, FakePlatform, make_row

SPOT, HALF, AWAY = (10.0, 10.0, 30.0, 20.0), (10.0, 10.0, 20.0, 20.0), (50.0, 50.0, 60.0, 60.0)
DRAWN_AT = {Fate.EDITED: HALF, Fate.ADDED: AWAY}
KEPT = Decision(Fate.KEPT, CAR.feature_hash, CAR.feature_hash)
EDITED = Decision(Fate.EDITED, CAR.feature_hash, CAR.feature_hash, "ann", 0.5)
SWAPPED = Decision(Fate.OTHER_CLASS, CAR.feature_hash, ROAD.feature_hash, "ann")
DELETED = Decision(Fate.DELETED, CAR.feature_hash, None)
ADDED = Decision(Fate.ADDED, None, CAR.feature_hash, "ben")
UNASKED = Decision(Fate.ADDED, None, ROAD.feature_hash, "ben")


def ran(
    ledger: Ledger,
    run: str,
    done: Mapping[str, Sequence[str]],
    held_out: Sequence[str] = (),
    destination: str = "main",
    objects: int = 1,
) -> None:
    """A run that ended: rows that are done, by data hash with the branches of their receipts, and rows left."""
    job = Job("project-1", RECIPE.id, destination)
    ledger.start_run(run, job, "Cars", RECIPE.to_json())
    ledger.claim(job, run, list(done), ledger.records(job))
    ledger.move(job, run, [Move(key, State.INFERRED) for key in done])
    for key, branches in done.items():
        for branch in branches:
            receipt = Receipt(branch, "label", {f"{key}-{i}": CAR.feature_hash for i in range(objects)}, "digest")
            ledger.move(job, run, [Move(key, State.INTENT), Move(key, State.WRITTEN, receipt=receipt)])
    ledger.move(job, run, [Move(key, State.DONE) for key in done])
    ledger.leave(job, run, dict.fromkeys(held_out, Reason.HOLDOUT), ledger.records(job))


def reviewed(
    ledger: Ledger, inspector: FakeInspector, stages: Mapping[str, Stage], run: str = "run", *, all_runs: bool = False
) -> Review:
    platform = FakePlatform([make_row(key, stage_uuid=stage.uuid) for key, stage in stages.items()])
    known = read_run(ledger, run)
    return review(known, platform, inspector, ledger, review_id="review-1", all_runs=all_runs)


def seen(key: str, said: Sequence[Decision] | None) -> Reviewed:
    """A row as the platform serves it where people decided so; what was proposed in it comes first."""
    named = [(f"{key}-{i}", one) for i, one in enumerate(said or ())]
    written = [track(name, one.proposed, SPOT) for name, one in named if one.proposed]
    now = [track(name, one.drawn, DRAWN_AT.get(one.fate, SPOT), one.person) for name, one in named if one.drawn]
    kept = frozenset(name for name, one in named if one.fate is Fate.KEPT)
    return Reviewed(make_row(key), tuple(written), None if said is None else tuple(now), kept)


def track(name: str, feature_hash: str, box: tuple[float, float, float, float], person: str = "") -> Track:
    return Track(name, feature_hash, {0: Detection(feature_hash, "", 1.0, box)}, person)


def made(annotator: str = "cyd", **rows: Sequence[Decision] | None) -> FakeInspector:
    """People made so much of rows, and the annotator took a minute for each."""
    spent = [TimeEntry(key, ANNOTATE.uuid, annotator, 60) for key in rows] if annotator else []
    return FakeInspector({key: seen(key, said) for key, said in rows.items()}, spent)


def test_objects_are_counted_by_class_and_person_and_add_up(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"], "b": ["main"]}, objects=3)
    inspector = made(a=[KEPT, EDITED, SWAPPED, ADDED], b=[KEPT, KEPT, DELETED, UNASKED])
    found = reviewed(ledger, inspector, {"a": DONE, "b": REVIEW})
    (car,) = found.classes
    assert car.by_person == {
        "ann": Fates(edited=1, other_class=1),
        "ben": Fates(added=1),
        "cyd": Fates(kept=3, deleted=1),
    }
    assert (found.fates, found.fates.proposed, car.edit_iou) == (car.fates, 6, pytest.approx(0.5))
    assert (found.unasked, found.confusion[ROAD.feature_hash, CAR.feature_hash]) == (1, 1)
    assert describe(found)["people"]["ann"]["proposed"] == 2


def test_who_decided_is_the_one_longest_at_the_row_where_the_platform_does_not_tell(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"], "b": ["main"]})
    times = [
        ("a", ANNOTATE, "cyd", 30),
        ("a", ANNOTATE, "ann", 20),
        ("a", REVIEW, "rev", 90),
        ("b", REVIEW, "rev", 9),
    ]
    spent = [TimeEntry(key, stage.uuid, who, seconds) for key, stage, who, seconds in times]
    both = {key: seen(key, [KEPT, ADDED]) for key in "ab"}
    found = reviewed(ledger, FakeInspector(both, spent), {"a": DONE, "b": DONE})
    assert found.by_person == {"": Fates(kept=1), "ben": Fates(added=2), "cyd": Fates(kept=1)}


def test_rows_that_cannot_be_judged_are_counted_with_their_reason(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {key: ["main"] for key in "abcde"} | {"f": ["branch"]})
    ledger.end_undo(Job("project-1", RECIPE.id, "main"), "run", "e", "main", ends_row=True)
    stages = {"a": DONE, "b": ANNOTATE, "c": DONE, "e": DONE, "f": DONE}
    found = reviewed(ledger, made(a=[KEPT], c=None), stages)
    counts = {text: count for count, text in found.rows}
    assert counts == dict.fromkeys((REVIEWED, NOT_YET, UNREADABLE, GONE, UNDONE, UNPUBLISHED), 1)
    assert (found.reviewed_rows, found.messages) == (1, ["'c.png' cannot be read"])


@pytest.mark.parametrize(("annotator", "said"), [("", [EDITED]), ("", [DELETED]), ("cyd", [KEPT])])
def test_a_row_behind_the_annotators_is_finished_where_one_is_seen_to_have_worked_on_it(
    tmp_path: Path, annotator: str, said: list[Decision]
) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"], "b": []})
    found = reviewed(ledger, made(annotator, a=said, b=[]), {"a": REVIEW, "b": ANNOTATE})
    assert found.rows == [(1, REVIEWED), (1, NOT_YET)]


@pytest.mark.parametrize("stage", [REVIEW, DONE])
def test_a_row_that_went_past_the_annotators_is_not_said_to_be_kept(tmp_path: Path, stage: Stage) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"], "empty": []})
    found = reviewed(ledger, made("", a=[KEPT], empty=[]), dict.fromkeys(["a", "empty"], stage))
    assert (found.rows, found.reviewed_rows, found.fates) == ([(2, PASSED)], 0, Fates())


def test_objects_that_cannot_be_told_any_more_are_not_taken_for_peoples(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"]}, objects=2)
    found = reviewed(ledger, made(a=[KEPT, ADDED]), {"a": DONE})
    assert (found.rows, found.fates) == ([(1, UNREADABLE)], Fates())
    assert "another version of autolabel" in found.messages[0]


def test_a_row_that_was_taken_back_and_written_again_is_judged(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path, clock=count(1.0).__next__), "run", {"a": ["main"], "b": ["main"]})
    job = Job("project-1", RECIPE.id, "main")
    for key in "ab":
        ledger.end_undo(job, "run", key, "main", ends_row=True)
    ran(ledger, "again", {"a": ["main"]})
    found = reviewed(ledger, made(a=[KEPT], b=[]), {"a": DONE, "b": DONE}, all_runs=True)
    assert found.rows == [(1, REVIEWED), (1, UNDONE)]


def test_a_row_in_which_nothing_was_found_is_reviewed_for_what_people_added(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"empty": []})
    assert reviewed(ledger, made(empty=[ADDED]), {"empty": DONE}).by_person == {"ben": Fates(added=1)}


def test_all_runs_are_those_of_the_same_work(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for run, key, destination in [("run", "a", "main"), ("cron", "b", "main"), ("other", "c", "agent-stage")]:
        ran(ledger, run, {key: ["main"]}, destination=destination)
    inspector, stages = made(a=[KEPT], b=[KEPT], c=[KEPT]), dict.fromkeys("abc", DONE)
    assert reviewed(ledger, inspector, stages).fates == Fates(kept=1)
    found = reviewed(ledger, inspector, stages, all_runs=True)
    assert (found.fates, list(found.runs)) == (Fates(kept=2), ["cron", "run"])


def test_what_never_came_to_main_is_refused_until_another_run_published_it(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": [RECIPE.branch], "empty": []}, destination="branch")
    with pytest.raises(PermanentUsageError, match="autolabel publish --run run"):
        reviewed(ledger, made(), {"a": DONE})
    ran(ledger, "published", {"a": ["main"]})
    assert reviewed(ledger, made(a=[KEPT], empty=[]), dict.fromkeys(["a", "empty"], DONE)).fates == Fates(kept=1)


def test_a_run_that_finished_no_row_is_refused(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {})
    with pytest.raises(PermanentUsageError, match="nothing to review"):
        reviewed(ledger, made(), {})


def timed(
    ledger: Ledger,
    with_labels: int,
    without: int,
    *,
    refuses: bool = False,
    stage: Stage = DONE,
    untimed: Sequence[str] = (),
) -> Review:
    """Four people of different pace, for whom pre-labels halve the seconds."""
    rows = {f"with-{i}": 10 for i in range(with_labels)} | {f"without-{i}": 20 for i in range(without)}
    ran(ledger, "run", {key: [] for key in rows if key < "without"}, [key for key in rows if key >= "without"])
    spent = [
        TimeEntry(key, ANNOTATE.uuid, f"person-{i % 4}", seconds * (1 + i % 4) + i % 3)
        for i, (key, seconds) in enumerate(rows.items())
    ]
    spent = [entry for entry in spent if entry.data_hash not in untimed]
    served = {key: Reviewed(make_row(key)) for key in rows}
    return reviewed(ledger, FakeInspector(served, spent, refuses=refuses), dict.fromkeys(rows, stage))


def test_time_compares_with_rows_that_were_held_out(tmp_path: Path) -> None:
    found = timed(open_ledger(tmp_path), 24, 24)
    assert isinstance(found.time, TimeRatio)
    assert found.time.ratio.low < 0.52 < found.time.ratio.high
    assert found.time.rows == (24, 24)


@pytest.mark.parametrize("stage", [DONE, REVIEW])
def test_too_few_rows_through_the_whole_workflow_give_no_figure(tmp_path: Path, stage: Stage) -> None:
    found = timed(open_ledger(tmp_path), 24, 24 if stage is REVIEW else 4, stage=stage)
    assert isinstance(found.time, TooFew)
    assert found.time_text.startswith("not yet: ")


def test_without_held_out_rows_it_is_said_how_to_get_some(tmp_path: Path) -> None:
    found = timed(open_ledger(tmp_path), 24, 0)
    assert (found.time, found.time_text) == (None, NO_HOLDOUT)


def test_a_row_that_was_held_out_and_taken_up_later_is_not_compared_with(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "early", {}, held_out=["a"])
    ran(ledger, "run", {"a": []})
    assert reviewed(ledger, made(a=[]), {"a": DONE}).time_text == NO_HOLDOUT


def test_a_key_that_may_not_read_timers_still_gets_the_rest_and_hears_why_there_is_no_time(tmp_path: Path) -> None:
    found = timed(open_ledger(tmp_path), 4, 10, refuses=True)
    assert (found.reviewed_rows, found.time) == (4, None)
    assert found.time_text == "not known: the key may not read timers"
    assert "may have gone past them" in found.messages[0]


@pytest.mark.parametrize("arm", ["with", "without"])
def test_an_arm_of_which_many_rows_have_no_time_is_not_compared_by_the_rest(tmp_path: Path, arm: str) -> None:
    found = timed(open_ledger(tmp_path), 24, 24, untimed=[f"{arm}-{i}" for i in range(3)])
    assert found.time is None
    assert f"no annotator worked on 3 of the 24 rows {arm} pre-labels" in found.time_text


def test_an_arm_of_which_few_rows_have_no_time_is_compared(tmp_path: Path) -> None:
    found = timed(open_ledger(tmp_path), 24, 24, untimed=["with-0", "with-1", "without-3"]).time
    assert isinstance(found, TimeRatio)
    assert found.rows == (22, 23)


def test_rows_that_were_set_aside_count_as_they_were_assigned(tmp_path: Path) -> None:
    ledger, job = open_ledger(tmp_path), Job("project-1", RECIPE.id, "main")
    ran(ledger, "run", {f"with-{i}": [] for i in range(12)}, [f"without-{i}" for i in range(12)])
    ledger.claim(job, "run", ["with-odd"], ledger.records(job))
    ledger.move(job, "run", [Move("with-odd", State.SET_ASIDE, "odd")])
    rows = [*(f"{arm}-{i}" for arm in ("with", "without") for i in range(12)), "with-odd"]
    spent = [TimeEntry(key, ANNOTATE.uuid, "ann", 60 + i % 2) for i, key in enumerate(rows)]
    served = {key: Reviewed(make_row(key)) for key in rows}
    found = reviewed(ledger, FakeInspector(served, spent), dict.fromkeys(rows, DONE)).time
    assert isinstance(found, TimeRatio)
    assert found.rows == (13, 12)


def test_a_run_is_compared_with_its_own_holdout_and_the_others_are_pointed_to(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    keys = {run: [f"{run}-{i}" for i in range(24)] for run in ("run", "cron")}
    for run, rows in keys.items():
        ran(ledger, run, {key: [] for key in rows[:12]}, rows[12:])
    rows = [*keys["run"], *keys["cron"]]
    spent = [TimeEntry(key, ANNOTATE.uuid, "ann", 60 + i % 3) for i, key in enumerate(rows)]
    inspector = FakeInspector({key: Reviewed(make_row(key)) for key in rows}, spent)
    stages = dict.fromkeys(rows, DONE)
    alone, together = (reviewed(ledger, inspector, stages, all_runs=every).time for every in (False, True))
    assert [one.rows for one in (alone, together) if isinstance(one, TimeRatio)] == [(12, 12), (24, 24)]
    unfinished = stages | dict.fromkeys(keys["run"][12:], ANNOTATE)
    assert "--all-runs" in reviewed(ledger, inspector, unfinished).time_text
