"""Which rows may be taken: every reason, and people's work before all others."""

from __future__ import annotations

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

FLOW = Workflow((ANNOTATE, REVIEW, DONE))
OPENED = make_row("r", label_hash="l")


def leave(row: LabelRow, **context: object) -> Reason | None:
    return reason_to_leave(row, Context(**{"workflow": FLOW, **context}))  # type: ignore[arg-type]


def content(*hashes: str, answers: bool = False) -> dict[str, RowContent]:
    return {"r": RowContent(frozenset(hashes), answers)}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (make_row("r"), None),
        (make_row("r", stage_uuid=REVIEW.uuid), Reason.WRONG_STAGE),
        (make_row("r", stage_uuid=""), Reason.WRONG_STAGE),
        (make_row("r", assigned_to="a@b.c"), Reason.ASSIGNED),
        (make_row("r", data_type="dicom"), Reason.UNSUPPORTED_TYPE),
        (make_row("r", data_type="video"), Reason.UNSUPPORTED_TYPE),
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
        (content("ours"), Reason.OURS_OTHER_RECIPE),
        (content("now"), Reason.OURS_THIS_RECIPE),
        (content("ours", "human"), Reason.HUMAN_CONTENT),
        (content("now", answers=True), Reason.HUMAN_CONTENT),
        (content(answers=True), Reason.HUMAN_CONTENT),
        ({}, Reason.HUMAN_CONTENT),
    ],
    ids=["empty", "human", "other recipe", "this recipe", "mixed", "ours and answered", "answered", "unreadable"],
)
def test_an_opened_row_is_never_taken_and_the_reason_says_whose_work_it_is(
    stands: dict[str, RowContent], reason: Reason
) -> None:
    ours, now = {"r": frozenset({"ours"})}, frozenset({"now"})
    assert leave(OPENED, contents=stands, ours=ours, hashes_of_recipe=lambda row: now) == reason


def test_rows_at_the_one_agent_stage_before_people_are_taken() -> None:
    flow = Workflow((AGENT, ANNOTATE, DONE))
    assert leave(make_row("r", stage_uuid=AGENT.uuid), workflow=flow) is None


def test_with_two_agent_stages_before_people_neither_is_touched() -> None:
    other = Stage("stage-other", "Other", "AGENT", (Pathway("w", "x", ANNOTATE.uuid),))
    assert (
        leave(make_row("r", stage_uuid=AGENT.uuid), workflow=Workflow((AGENT, other, ANNOTATE))) == Reason.WRONG_STAGE
    )


def test_an_agent_stage_after_people_is_not_ours() -> None:
    after = Stage("stage-qa", "QA", "AGENT", (Pathway("w", "x", DONE.uuid),))
    assert Workflow((ANNOTATE, after, DONE)).agent_stage is None


def test_rows_of_equal_priority_keep_the_listings_order() -> None:
    rows = [make_row("a", priority=0.5), make_row("b", priority=0.9), make_row("c", priority=0.5)]
    assert [row.data_hash for row in in_queue_order(rows)] == ["b", "a", "c"]


def test_every_reason_has_words() -> None:
    assert set(REASON_TEXT) == set(Reason)
