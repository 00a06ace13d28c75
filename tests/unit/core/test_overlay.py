"""What is drawn over a picture: the masks as they are sent, outlines and captions inside the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.overlay import caption_font_px, hex_color, marks, tint
from labels import BOX_XYXY_PX, make_class, make_instance

GREY = np.full((50, 100, 3), 128, np.uint8)


@pytest.mark.parametrize("shape", ["bitmask", "polygon"])
def test_a_mask_is_tinted_where_it_lies_and_has_no_box(shape: str) -> None:
    cls = make_class("Road", shape, "#ff0000")  # type: ignore[arg-type]
    places = [(cls, make_instance(cls, 0.5).placements[0])]
    shown = tint(GREY, places, 720)
    left, top, right, bottom = map(int, BOX_XYXY_PX)
    assert (shown[top + 4 : bottom - 4, left + 4 : right - 4] == (178, 76, 76)).all()
    assert (shown[:, right + 4 :] == 128).all()
    assert marks(places, 100, 50, 3.6)[0].outline_xy_px == ()


def test_a_box_is_an_outline_in_the_shown_picture_and_leaves_the_pixels_alone() -> None:
    cls = make_class()
    places = [(cls, make_instance(cls, 0.5).placements[0])]
    assert (tint(GREY, places, 50) == 128).all()
    assert tint(GREY, places, 50).shape == (25, 50, 3)
    (mark,) = marks(places, 50, 25, 3.6)
    assert mark.outline_xy_px == ((10.0, 5.0), (30.0, 5.0), (30.0, 20.0), (10.0, 20.0))
    assert (mark.caption, mark.color, mark.ink) == ("Car 0.50", "#D33115", "#fff")


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 6))
def test_captions_start_inside_the_picture(width: int, height: int, count: int) -> None:
    cls = make_class("A class with a rather long name")
    places = [(cls, make_instance(cls, 0.5).placements[0])] * count
    for mark in marks(places, width, height, caption_font_px(width, height)):
        x, y = mark.caption_xy_px
        assert x >= 0
        assert y <= height


def test_captions_of_objects_at_one_place_do_not_cover_each_other() -> None:
    cls = make_class()
    places = [(cls, make_instance(cls, 0.5).placements[0])] * 4
    assert len({mark.caption_xy_px for mark in marks(places, 640, 320, 20)}) == 4


@pytest.mark.parametrize(("color", "safe"), [("#12abEF", "#12abEF"), ("#12abEF80", "#12abEF"), ("red;}", "#808080")])
def test_only_colours_get_into_a_style(color: str, safe: str) -> None:
    assert hex_color(color) == safe
