"""Curves as SVG that stands inline in a page and follows its colours, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autolabel.evaluation.values import Rates, Reliability

COLORS: Mapping[str, str] = {
    "ink": "#010203",
    "dim": "#040506",
    "line": "#070809",
    "accent": "#0a0b0c",
    "second": "#0d0e0f",
}
"""Names of the page's colours -> what they are drawn in, to be replaced by `var(--NAME)`."""

SIZE_INCHES = (4.6, 2.6)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["dim"],
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["dim"],
    "ytick.labelcolor": COLORS["dim"],
    "text.color": COLORS["dim"],
    "savefig.transparent": True,
}


def rates_chart(key: str, rates: Rates, now: float, suggested: float | None) -> Markup:
    """Precision, recall and F1 against the threshold, each with its interval as a band.

    `now` is the recipe's threshold, drawn dotted; `suggested` is drawn as a line. `key` keeps the drawing's ids apart
    from those of others on a page.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"rates {key}"}):
        figure, axes = _unit_square("threshold", "")
        series = ((rates.precision, "accent", "-"), (rates.recall, "second", "--"), (rates.f1, "ink", "-."))
        for (value, low, high), color, dashes in series:
            axes.fill_between(rates.thresholds, low, high, color=COLORS[color], alpha=0.13, linewidth=0)
            axes.plot(rates.thresholds, value, color=COLORS[color], linestyle=dashes, linewidth=1.6)
        axes.axvline(now, color=COLORS["dim"], linewidth=1, linestyle=":")
        if suggested is not None:
            axes.axvline(suggested, color=COLORS["dim"], linewidth=1)
        return _svg(figure, "precision, recall and F1 against the threshold")


def reliability_chart(key: str, reliability: Reliability) -> Markup:
    """How often detections were right against the confidence they had: as it is, and calibrated; `key` as above.

    On the dashed diagonal, confidence can be taken at its word.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"reliability {key}"}):
        figure, axes = _unit_square("confidence", "share that was right")
        axes.plot((0, 1), (0, 1), color=COLORS["line"], linestyle="--", linewidth=1)
        series = ((reliability.mean_score, "accent", "-", "o"), (reliability.calibrated, "second", "--", "s"))
        for confidence, color, dashes, marker in series:
            axes.plot(
                confidence,
                reliability.share_right,
                color=COLORS[color],
                linestyle=dashes,
                marker=marker,
                markersize=3.5,
                linewidth=1.4,
            )
        return _svg(figure, "how often detections were right against their confidence")


def _unit_square(x_title: str, y_title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES)
    axes = figure.add_axes((0.1, 0.17, 0.89, 0.8))  # where an automatic layout puts it, in half the time
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x_title, ylabel=y_title)
    axes.grid(color=COLORS["line"], linewidth=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, label: str) -> Markup:
    """The drawing alone, to hundredths: no prologue, rules for the page around it, size, fonts or ids of groups."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>| font-family: [^;]*;", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg[^>]*(viewBox="[^"]*")[^>]*>', rf'<svg class="chart" \1 role="img" aria-label="{label}">', text, count=1
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r"\s+", " ", re.sub(r"(\.\d\d)\d+", r"\1", text))
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    return Markup(text)
