"""A comparison as a forest plot: a panel per contrast, a line per target."""

import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from densityjax.ablation.results import Comparison, Difference
from densityjax.ablation.words import AVERAGES, WIDTH, target_labels
from densityjax.report.style import BLUE, GREY, INK, STYLE, VERMILION

BAND = "#d1d5db"  # what the design cannot detect
PIXELS, DPI = 1200, STYLE["savefig.dpi"]  # width of the picture


def to_png(comparison: Comparison) -> bytes:
    """Forest plot, `PIXELS` wide."""
    with matplotlib.rc_context(STYLE | {"axes.titleweight": "normal", "axes.titlesize": 9}):
        figure = _forest(comparison)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _forest(comparison: Comparison) -> Figure:
    targets = target_labels(comparison)
    contrasts = comparison.contrasts
    columns = min(WIDTH, max(1, len(contrasts)))
    lines = max(1, -(-len(contrasts) // columns))
    figure = Figure(figsize=(PIXELS / DPI, 0.9 + lines * (0.75 + 0.27 * len(targets))))
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, sharex=True, squeeze=False)  # [lines, cols]
    limit = _limit([row for contrast in contrasts for row in contrast.rows])
    places = {name: -k - 0.6 * (name in AVERAGES) for k, name in enumerate(targets)}
    short = {
        name: label.replace(", balanced accuracy", "\n(balanced accuracy)").replace(
            " without identity targets", "\nwithout identities"
        )
        for name, label in targets.items()
    }
    for axes, contrast in zip(grid.flat, contrasts, strict=False):
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for row in contrast.rows:
            _draw(axes, row, places[row.target], limit)
        axes.set_title(f"{contrast.variant}\n− {contrast.reference}")
        axes.grid(False, axis="y")
        axes.set(xlim=(-limit * 1.06, limit * 1.06), ylim=(min(places.values()) - 0.7, 0.7))
        axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True, min_n_ticks=3))
        axes.set_yticks(list(places.values()), list(short.values()), fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
    for axes in list(grid.flat)[len(contrasts) :]:
        axes.set_visible(False)
    for column in range(columns):  # the lowest panel of a column shows the numbers
        last = max((k for k in range(lines) if k * columns + column < len(contrasts)), default=0)
        grid[last, column].tick_params(labelbottom=True)
    figure.supxlabel("Paired difference of R² or balanced accuracy, 95 % interval", fontsize=9)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=5, fontsize=8)
    return figure


def _limit(rows: Sequence[Difference]) -> float:
    """Half the width of a panel: all intervals, unless a few dwarf the rest; those are cut."""
    ends = [abs(v) for row in rows for v in (row.low, row.high, row.value) if v]
    if not ends:
        return 0.1
    return float(min(max(ends), 2.5 * np.percentile(ends, 75)))


def _draw(axes: Axes, row: Difference, place: float, limit: float) -> None:
    if row.value is None:
        axes.text(0, place, "undefined", fontsize=7, color=GREY, va="center", ha="center")
        return
    if row.verdict == "same model":
        axes.plot(0, place, marker="|", color=GREY, markersize=8, markeredgewidth=2.5)
        return
    if row.detectable is not None:
        size = min(row.detectable, limit * 1.06)
        axes.barh(place, 2 * size, left=-size, height=0.62, color=BAND, alpha=0.7, zorder=0)
    color, fill = {"win": (BLUE, BLUE), "loss": (VERMILION, VERMILION)}.get(
        row.verdict, (INK, "white")
    )
    if row.low is not None:
        ends = np.clip([row.low, row.high], -limit, limit)
        axes.plot(ends, [place, place], color=color, linewidth=1.6, zorder=2)
        for end, side in ((row.low, "<"), (row.high, ">")):
            if abs(end) > limit * (1 + 1e-9):
                at = math.copysign(limit, end)
                axes.plot(at, place, marker=side, color=color, markersize=5, zorder=2)
    shape = {"win": "o", "loss": "s"}.get(row.verdict, "o")
    if abs(row.value) <= limit * (1 + 1e-9):
        size = 5.5 if row.target in AVERAGES else 5
        shape = "D" if row.target in AVERAGES else shape
        axes.plot(
            row.value, place, marker=shape, color=color, markerfacecolor=fill, markersize=size,
            markeredgewidth=1.3, linestyle="none", zorder=3,
        )


def _legend() -> list[Line2D | Patch]:
    point = dict(linewidth=1.6, markersize=5)
    return [
        Line2D([], [], color=BLUE, marker="o", label="won", **point),
        Line2D([], [], color=VERMILION, marker="s", label="lost", **point),
        Line2D([], [], color=INK, marker="o", markerfacecolor="white", label="undecided", **point),
        Line2D(
            [], [], color=GREY, marker="|", markersize=8, markeredgewidth=2.5, linestyle="none",
            label="same model",
        ),
        Patch(color=BAND, alpha=0.7, label="too small to detect"),
    ]
