"""Which rows may be taken: every reason, and people's work before all others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from autolabel.core.rows import (
    REASON_TEXT,
    Context,
    LabelRow,
    Pathway,
    Reason,
    RowContent,
    Stage,
    Workflow,
    in_queue_order,
    reason_to_leave,
)
from platform_fakes import AGENT, ANNOTATE, DONE, REVIEW, make_row

WAITING = frozenset({ANNOTATE.uuid})
OPENED = make_row("r", label_hash="l")
RECEIPTS = {"r": {"before": "other", "now": "this"}}


def leave(row: LabelRow, **context: object) -> Reason | None:
    return reason_to_leave(row, Context(**{"waiting_stages": WAITING, **context}))  # type: ignore[arg-type]


def content(*hashes: str, by_people: bool = False) -> dict[str, RowContent]:
    return {"r": RowContent(dict.fromkeys(hashes, "car00001"), by_people)}


def is_from_this_recipe(row: LabelRow, objects: Mapping[str, str]) -> bool:
    return set(objects) <= {"now", "lost"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (make_row("r"), None),
        (make_row("r", stage_uuid=REVIEW.uuid), Reason.WRONG_STAGE),
        (make_row("r", stage_uuid=""), Reason.WRONG_STAGE),
        (make_row("r", assigned_to="a@b.c"), Reason.ASSIGNED),
        (make_row("r", data_type="dicom"), Reason.UNSUPPORTED_TYPE),
        (make_row("r", data_type="audio"), Reason.UNSUPPORTED_TYPE),
        (make_row("r", data_type="video"), None),
        (make_row("r", data_type="img_group"), None),
    ],
)
def test_a_row_that_nobody_opened_is_judged_by_type_stage_and_assignee(row: LabelRow, reason: Reason | None) -> None:
    assert leave(row) == reason


def test_a_task_that_a_person_skipped_stays_skipped() -> None:
    assert leave(make_row("r"), skipped=frozenset({"r"})) == Reason.SKIPPED_BY_HUMAN


@pytest.mark.parametrize(
    ("stands", "reason"),
    [
        (content(), Reason.HAS_ROW_EMPTY),
        (content("human"), Reason.HUMAN_CONTENT),
        (content("before"), Reason.OURS_OTHER_RECIPE),
        (content("now"), Reason.OURS_THIS_RECIPE),
        (content("lost"), Reason.OURS_THIS_RECIPE),
        (content("now", "lost"), Reason.OURS_THIS_RECIPE),
        (content("before", "human"), Reason.HUMAN_CONTENT),
        (content("now", by_people=True), Reason.HUMAN_CONTENT),
        (content(by_people=True), Reason.HUMAN_CONTENT),
        ({}, Reason.HUMAN_CONTENT),
    ],
    ids=[
        "empty",
        "human",
        "other recipe",
        "this recipe",
        "no ledger",
        "in part",
        "mixed",
        "ours and touched",
        "answered",
        "unreadable",
    ],
)
def test_an_opened_row_is_never_taken_and_the_reason_says_whose_work_it_is(
    stands: dict[str, RowContent], reason: Reason
) -> None:
    found = leave(OPENED, contents=stands, recipe_id="this", ours=RECEIPTS, named_by_recipe=is_from_this_recipe)
    assert found == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (OPENED, None),
        (make_row("r", label_hash="l", stage_uuid=REVIEW.uuid), Reason.WRONG_STAGE),
        (make_row("r", label_hash="l", assigned_to="a@b.c"), Reason.ASSIGNED),
        (make_row("r", label_hash="l", data_type="audio"), Reason.UNSUPPORTED_TYPE),
    ],
)
def test_an_opened_row_in_which_nothing_stands_is_judged_like_a_fresh_one_where_it_may_be_taken(
    row: LabelRow, reason: Reason | None
) -> None:
    assert leave(row, contents=content(), takes_empty=True) == reason
    assert leave(row, contents=content(), takes_empty=True, landed=frozenset({"r"})) == Reason.HAS_ROW_EMPTY


def test_a_task_that_a_person_had_is_not_taken_away_from_people() -> None:
    assert leave(make_row("r"), not_new=frozenset({"r"})) == Reason.TASK_NOT_NEW


def test_assigned_tasks_are_taken_where_that_is_asked_for_but_not_skipped_ones() -> None:
    assigned = make_row("r", assigned_to="a@b.c")
    assert leave(assigned, include_assigned=True) is None
    assert leave(assigned, include_assigned=True, skipped=frozenset({"r"})) == Reason.SKIPPED_BY_HUMAN


@pytest.mark.parametrize("stands", [content("human", by_people=True), content("before"), content("now")])
def test_names_are_not_tried_where_a_mark_or_a_receipt_tells_already(stands: dict[str, RowContent]) -> None:
    def try_names(row: LabelRow, objects: Mapping[str, str]) -> bool:
        raise AssertionError("hashing takes time")

    leave(OPENED, contents=stands, recipe_id="this", ours=RECEIPTS, named_by_recipe=try_names)


def test_the_only_agent_stage_before_the_first_annotators_is_ours() -> None:
    assert Workflow((AGENT, ANNOTATE, DONE)).agent_stage(None) == AGENT


def test_with_two_agent_stages_before_people_only_a_named_one_is_ours() -> None:
    other = Stage("stage-other", "Other", "AGENT", (Pathway("w", "x", ANNOTATE.uuid),))
    flow = Workflow((AGENT, other, ANNOTATE))
    assert flow.agent_stage(None) is None
    assert flow.agent_stage("Other") == other
    assert flow.agent_stage("Third") is None


@pytest.mark.parametrize("destination", [REVIEW, DONE])
def test_an_agent_stage_after_the_annotators_is_not_ours(destination: Stage) -> None:
    after = Stage("stage-qa", "QA", "AGENT", (Pathway("w", "x", destination.uuid),))
    assert Workflow((ANNOTATE, after, REVIEW, DONE)).agent_stage(None) is None


def test_rows_of_equal_priority_keep_the_listings_order() -> None:
    rows = [make_row("a", priority=0.5), make_row("b", priority=0.9), make_row("c", priority=0.5)]
    assert [row.data_hash for row in in_queue_order(rows)] == ["b", "a", "c"]


def test_every_reason_has_words() -> None:
    assert set(REASON_TEXT) == set(Reason)
