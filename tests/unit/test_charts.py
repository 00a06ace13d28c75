"""Charts follow the page's colours, are the same for the same figures, and disturb nothing around them."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from autolabel.charts import COLORS, rates_chart, reliability_chart
from trials import make_rates, make_reliability

CHARTS = (rates_chart("a", make_rates(0.8), 0.35, 0.41), reliability_chart("a", make_reliability()))


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_has_no_colour_of_its_own_and_is_well_formed(chart: str) -> None:
    assert not re.search("#[0-9a-f]{6}", chart)
    assert set(re.findall(r"var\(--(\w+)\)", chart)) <= COLORS.keys()
    assert ElementTree.fromstring(chart).tag == "svg"


@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_brings_no_rules_metadata_or_date_and_stays_small(chart: str) -> None:
    assert not re.search("<style|<metadata|<!--|font-family|http", chart)
    assert len(chart) < 30_000


def test_the_same_figures_give_the_same_chart_and_two_classes_share_no_id() -> None:
    again, other = (rates_chart(key, make_rates(0.8), 0.35, 0.41) for key in "ab")
    ids = [re.findall(r'\bid="([^"]+)"', chart) for chart in (*CHARTS, other)]
    assert again == CHARTS[0]
    assert len({name for names in ids for name in names}) == sum(map(len, ids)) > 0


def test_every_reference_of_a_chart_is_to_its_own_parts() -> None:
    for chart in CHARTS:
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', chart)
        assert {a or b for a, b in used} <= set(re.findall(r'\bid="([^"]+)"', chart))


def test_precision_of_nothing_leaves_a_gap_and_no_warning() -> None:
    rates = make_rates(0.8)
    precision = rates.precision.copy()
    precision[:, 60:] = np.nan
    assert "nan" not in rates_chart("a", replace(rates, precision=precision), 0.35, None)
