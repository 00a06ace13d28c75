"""What a review makes of what people did: rows and objects that add up, who decided, and the time it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from autolabel.core.rows import Reason, Stage
from autolabel.errors import PermanentUsageError
from autolabel.evaluation.values import Decision, Fate, TimeEntry, TimeRatio, TooFew
from autolabel.ledger import Ledger
from autolabel.operate import read_run
from autolabel.protocols import Receipt, Reviewed
from autolabel.review import (
    GONE,
    NO_HOLDOUT,
    NOT_YET,
    REVIEWED,
    UNDONE,
    UNPUBLISHED,
    UNREADABLE,
    Fates,
    Review,
    describe,
    review,
)
from autolabel.states import Job, Move, State
from ledgers import open_ledger
from platform_fakes import ANNOTATE, CAR, DONE, RECIPE, REVIEW, ROAD, FakeInspector, FakePlatform, make_row

KEPT = Decision(Fate.KEPT, CAR.feature_hash, CAR.feature_hash)
EDITED = Decision(Fate.EDITED, CAR.feature_hash, CAR.feature_hash, "ann", 0.5)
SWAPPED = Decision(Fate.OTHER_CLASS, CAR.feature_hash, ROAD.feature_hash, "ann")
ADDED = Decision(Fate.ADDED, None, CAR.feature_hash, "ben")
UNASKED = Decision(Fate.ADDED, None, ROAD.feature_hash, "ben")


def ran(
    ledger: Ledger,
    run: str,
    done: Mapping[str, Sequence[str]],
    held_out: Sequence[str] = (),
    destination: str = "main",
) -> None:
    """A run that ended: rows that are done, by data hash with the branches of their receipts, and rows left."""
    job = Job("project-1", RECIPE.id, destination)
    ledger.start_run(run, job, "Cars", RECIPE.to_json())
    ledger.claim(job, run, list(done), ledger.records(job))
    ledger.move(job, run, [Move(key, State.INFERRED) for key in done])
    for key, branches in done.items():
        for branch in branches:
            receipt = Receipt(branch, "label", {f"object-{key}": CAR.feature_hash}, "digest")
            ledger.move(job, run, [Move(key, State.INTENT), Move(key, State.WRITTEN, receipt=receipt)])
    ledger.move(job, run, [Move(key, State.DONE) for key in done])
    ledger.leave(job, run, dict.fromkeys(held_out, Reason.HOLDOUT), ledger.records(job))


def reviewed(
    ledger: Ledger, inspector: FakeInspector, stages: Mapping[str, Stage], run: str = "run", *, all_runs: bool = False
) -> Review:
    platform = FakePlatform([make_row(key, stage_uuid=stage.uuid) for key, stage in stages.items()])
    known = read_run(ledger, run)
    return review(known, platform, inspector, ledger, review_id="review-1", all_runs=all_runs)


def made(**rows: Sequence[Decision] | None) -> FakeInspector:
    return FakeInspector(
        {key: Reviewed(make_row(key), None if said is None else tuple(said)) for key, said in rows.items()}
    )


def test_objects_are_counted_by_class_and_person_and_add_up(tmp_path: Path) -> None:
    ran(ledger := open_ledger(tmp_path), "run", {"a": ["main"], "b": ["main"]})
    inspector = made(a=[KEPT, EDITED, SWAPPED, ADDED], b=[KEPT, UNASKED])
    found = reviewed(ledger, inspector, {"a": DONE, "b": REVIEW})
    (car,) = found.classes
    assert car.by_person == {"": Fates(kept=2), "ann": Fates(edited=1, other_class=1), "ben": Fates(added=1)}
    assert (found.fates, found.fates.proposed, car.edit_iou) == (car.fates, 4, 0.5)
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
    both = {key: Reviewed(make_row(key), (KEPT, ADDED)) for key in "ab"}
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
    assert (found.fates, list(found.runs)) == (Fates(kept=2), ["run", "cron"])


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


def timed(ledger: Ledger, with_labels: int, without: int, *, refuses: bool = False, stage: Stage = DONE) -> Review:
    """Four people of different pace, for whom pre-labels halve the seconds."""
    rows = {f"with-{i}": 10 for i in range(with_labels)} | {f"without-{i}": 20 for i in range(without)}
    ran(ledger, "run", {key: [] for key in rows if key < "without"}, [key for key in rows if key >= "without"])
    spent = [
        TimeEntry(key, ANNOTATE.uuid, f"person-{i % 4}", seconds * (1 + i % 4) + i % 3)
        for i, (key, seconds) in enumerate(rows.items())
    ]
    seen = {key: Reviewed(make_row(key), ()) for key in rows}
    return reviewed(ledger, FakeInspector(seen, spent, refuses=refuses), dict.fromkeys(rows, stage))


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


def test_a_key_that_may_not_read_timers_still_gets_the_rest(tmp_path: Path) -> None:
    found = timed(open_ledger(tmp_path), 4, 0, refuses=True)
    assert (found.reviewed_rows, found.messages) == (4, ["there are no times: the key may not read timers"])
