"""The bar chart of what `benchmarks.bench` found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personacore.reporting.figures import COLORS, INK, figure


def draw_chart(path: Path, ratios: Mapping[str, Mapping[str, Any]]) -> None:
    """Every ratio with its lowest and highest, on a logarithmic scale, and a mark where it should reach."""
    with figure(path, "Against other implementations", "times as fast", "", (7.0, 1.4 + 0.4 * len(ratios))) as axes:
        values = [figures["value"] for figures in ratios.values()]
        spread = [
            [figures["value"] - figures["low"] for figures in ratios.values()],
            [figures["high"] - figures["value"] for figures in ratios.values()],
        ]
        axes.barh(list(ratios), values, color=COLORS[0], height=0.6, xerr=spread, ecolor=INK)
        for place, value in enumerate(values):  # in a column of their own, where no mark is
            axes.annotate(f"{value:.1f}", (1, place), xycoords=("axes fraction", "data"), ha="right", va="center")
        axes.scatter(
            [figures["reach"] for figures in ratios.values()], list(ratios), color=COLORS[1], marker="|", s=150, zorder=3
        )
        axes.axvline(1, color=INK, lw=1)
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, 4 * max(values))
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
