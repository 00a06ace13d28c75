"""What became of proposed objects: each is kept, edited, deleted or of another class, and the rest was added."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_from_window
from autolabel.evaluation.fates import decisions
from autolabel.evaluation.values import Decision, Fate, Track

Box = tuple[float, float, float, float]
SPOT: Box = (10, 10, 30, 20)
AWAY: Box = (50, 50, 60, 60)
HALF: Box = (10, 10, 20, 20)


def track(name: str, *boxes: Box, cls: str = "cup", person: str = "") -> Track:
    places = {frame: Detection(cls, "", 1.0, box) for frame, box in enumerate(boxes)}
    return Track(name, cls, places, person)


def masked(name: str, columns: slice) -> Track:
    pixels = np.zeros((10, 20), np.bool_)
    pixels[:, columns] = True
    return Track(name, "cup", {0: Detection("cup", "", 1.0, SPOT, mask_from_window(pixels, 10, 10, 1.0))})


def only(written: Track, *standing: Track, kept: bool = False) -> Decision:
    return decisions([written], standing, frozenset({written.object_hash} if kept else ()))[0]


def test_what_stands_as_written_is_kept_and_nobody_is_said_to_have_decided() -> None:
    assert only(track("a", SPOT), track("a", SPOT, person="ann"), kept=True) == Decision(Fate.KEPT, "cup", "cup")


def test_an_edit_has_its_author_and_the_overlap_of_boxes() -> None:
    edit = only(track("a", SPOT), track("a", HALF, person="ann"))
    assert edit == Decision(Fate.EDITED, "cup", "cup", "ann", pytest.approx(0.5))


def test_an_edit_of_masks_has_the_overlap_of_their_pixels() -> None:
    edit = only(masked("a", slice(0, 8)), masked("a", slice(4, 12)))
    assert edit.iou == pytest.approx(4 / 12)


def test_an_edit_of_a_track_counts_frames_from_which_it_was_taken_as_no_overlap() -> None:
    edit = only(track("a", SPOT, SPOT, SPOT), track("a", SPOT, HALF))
    assert edit.iou == pytest.approx((1 + 0.5 + 0) / 3)


def test_an_edit_into_what_cannot_be_compared_has_no_overlap_rather_than_none_at_all() -> None:
    assert only(track("a", SPOT), track("a", person="ann")) == Decision(Fate.EDITED, "cup", "cup", "ann", None)


def test_another_class_is_told_under_the_same_hash_and_in_the_place_of_what_was_deleted() -> None:
    expected = Decision(Fate.OTHER_CLASS, "cup", "jar", "ann")
    assert only(track("a", SPOT), track("a", SPOT, cls="jar", person="ann")) == expected
    assert decisions([track("a", SPOT)], [track("b", SPOT, cls="jar", person="ann")], frozenset()) == [expected]


@pytest.mark.parametrize("other", [track("b", AWAY, cls="jar"), track("b", SPOT)], ids=["elsewhere", "same class"])
def test_what_does_not_take_its_place_is_added_beside_the_deletion(other: Track) -> None:
    fates = [decision.fate for decision in decisions([track("a", SPOT)], [other], frozenset())]
    assert fates == [Fate.DELETED, Fate.ADDED]


def test_one_object_takes_the_place_of_one_and_the_nearest() -> None:
    written = [track("a", SPOT), track("b", (11, 10, 31, 20))]
    found = decisions(written, [track("c", SPOT, cls="jar")], frozenset())
    assert [decision.fate for decision in found] == [Fate.OTHER_CLASS, Fate.DELETED]


BOXES = st.sampled_from([SPOT, AWAY, HALF])
TRACKS = st.lists(
    st.builds(
        lambda name, cls, box: track(name, box, cls=cls), st.sampled_from("abcdef"), st.sampled_from("xy"), BOXES
    ),
    unique_by=lambda track: track.object_hash,
)


@given(TRACKS, TRACKS, st.frozensets(st.sampled_from("abcdef")))
def test_all_that_was_proposed_and_all_that_stands_is_told_once(
    written: list[Track], standing: list[Track], as_written: frozenset[str]
) -> None:
    found = decisions(written, standing, as_written)
    proposed = Counter(decision.proposed for decision in found if decision.proposed)
    drawn = Counter(decision.drawn for decision in found if decision.drawn)
    assert proposed == Counter(track.feature_hash for track in written)
    assert drawn == Counter(track.feature_hash for track in standing)
