"""That simulated annotators do what their rules say, and take the seconds that they say."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from encord.objects import LabelRowV2
from encord.objects.coordinates import BoundingBoxCoordinates

from annotators import Annotator, Thing, Work, annotate, approve, mean_seconds, prelabel, truth_of
from sandbox.conftest import RunningSandbox, Start

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
EXACT = Annotator("exact@example.com", noise=0)
SYRINGE, GAUZE = "blue syringe", "white gauze"
TRUTH = [
    Thing(SYRINGE, (0.1, 0.1, 0.2, 0.2)),
    Thing(SYRINGE, (0.5, 0.5, 0.2, 0.2)),
    Thing(GAUZE, (0.7, 0.1, 0.2, 0.2)),
    Thing("steel scissors", (0.1, 0.7, 0.2, 0.2)),  # of a shape that people cannot draw there
]


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("demo", 3)


def worked(sandbox: RunningSandbox, by: Annotator, *shown: Thing) -> tuple[Work, LabelRowV2]:
    row = sandbox.project().list_label_rows_v2()[0]
    prelabel(sandbox.project(), [row] if shown else [], shown)
    work = annotate(sandbox, by, row.data_hash, TRUTH, np.random.default_rng(0))
    after = sandbox.project().list_label_rows_v2()[0]
    after.initialise_labels()
    return work, after


def boxes(row: LabelRowV2) -> set[tuple[str, float]]:
    """Class and left edge."""
    found = ((item, item.get_annotation().coordinates) for item in row.get_object_instances())
    return {(item.object_name, box.top_left_x) for item, box in found if isinstance(box, BoundingBoxCoordinates)}


def test_what_is_right_is_kept_what_is_near_is_adjusted_the_rest_deleted_or_drawn(sandbox: RunningSandbox) -> None:
    near, wrong = Thing(SYRINGE, (0.55, 0.5, 0.2, 0.2)), Thing(SYRINGE, (0.7, 0.1, 0.2, 0.2))
    work, after = worked(sandbox, EXACT, TRUTH[0], near, wrong)
    acts = {("kept", SYRINGE): 1, ("edited", SYRINGE): 1, ("deleted", SYRINGE): 1, ("added", GAUZE): 1}
    assert (work.acts, work.seconds) == (Counter(acts), round(mean_seconds(EXACT, Counter(acts))))
    assert boxes(after) == {(thing.name, thing.box_norm[0]) for thing in TRUTH[:3]}


def test_a_row_from_nothing_is_drawn_and_submitted_and_its_seconds_booked(sandbox: RunningSandbox) -> None:
    work, after = worked(sandbox, EXACT)
    assert work.acts == {("added", SYRINGE): 2, ("added", GAUZE): 1}
    approve(sandbox, "reviewer@example.com", after.data_hash, seconds=9)
    spent = Counter({"exact@example.com": work.seconds, "reviewer@example.com": 9})
    for told in sandbox.project().list_time_spent(LONG_AGO):
        spent[told.user_email] -= told.time_spent_seconds
    assert set(spent.values()) == {0}
    assert sandbox.project().list_label_rows_v2()[0].workflow_graph_node.title == "Complete"  # type: ignore[union-attr]


def test_people_differ_in_taste_and_pace(sandbox: RunningSandbox) -> None:
    lenient = Annotator("lenient@example.com", pace=2, enough_iou=0.3, noise=0)
    work, _ = worked(sandbox, lenient, Thing(SYRINGE, (0.15, 0.1, 0.2, 0.2)))
    assert work.acts["kept", SYRINGE] == 1
    assert work.seconds == round(2 * mean_seconds(EXACT, work.acts))


def test_the_truth_is_that_of_the_demo(sandbox: RunningSandbox) -> None:
    truth = truth_of(sandbox)
    assert set(truth) <= {row.data_hash for row in sandbox.project().list_label_rows_v2()}
    assert all(0 <= side <= 1 for things in truth.values() for thing in things for side in thing.box_norm)
