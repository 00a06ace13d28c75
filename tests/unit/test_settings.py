"""Settings of costs: read one by one from the environment, refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autolabel.errors import PermanentUsageError
from autolabel.evaluation.costs import Costs
from autolabel.settings import read_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_a_cost_is_set_by_itself_and_the_others_keep_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOLABEL_COSTS__DRAW_BOX_S", "9.5")
    assert read_settings(env_file=None).costs == Costs(draw_box_s=9.5)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AUTOLABEL_COSTS__DRAW_BOX_S", "-1", "AUTOLABEL_COSTS__DRAW_BOX_S is off"),
        ("AUTOLABEL_COSTS__GOOD_IOU", "1.5", "AUTOLABEL_COSTS__GOOD_IOU is off"),
        ("AUTOLABEL_COSTS__DRAW_BOXES", "7", "did you mean 'AUTOLABEL_COSTS__DRAW_BOX_S'"),
    ],
)
def test_a_cost_that_is_off_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PermanentUsageError, match=says):
        read_settings(env_file=None)


def test_the_example_shows_the_default_costs() -> None:
    shown = dict(re.findall(r"^AUTOLABEL_COSTS__(\w+)=(.+)$", EXAMPLE.read_text(), re.MULTILINE))
    assert Costs(**{name.lower(): float(value) for name, value in shown.items()}) == Costs()
