"""Heat maps of similarities between targets, with the tree that made the groups."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.cluster import hierarchy

from densityjax.report.style import GREY, INK, STYLE, VERMILION
from densityjax.target_grouping.clustering import Clustering, cluster
from densityjax.target_grouping.columns import LOW_OVERLAP
from densityjax.target_grouping.select import FoldGroups
from densityjax.target_grouping.settings import Settings
from densityjax.target_grouping.similarity import SIGNIFICANT
from densityjax.targets import TargetSpec

# Runs from dark to light blue-yellow alike for every eye.
_COLOURS = "cividis"
_CELL, _TREE, _TITLE, _GAP = 0.40, 0.75, 0.34, 0.3  # inches
_COLUMNS = 3
_NARROWEST = 3.8  # inches of a panel, which its title and the legend need
_NOTES = (
    "Tree: average linkage.",
    "Boxes and red branches: the groups.",
)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One heat map.

    Attributes:
        title: above it.
        values: [T, T] in [0, 1].
        clustering: its tree and groups.
        weak: [T, T] bool, pairs whose similarity may be chance.
        low: [T, T] bool, pairs that share few materials.
    """

    title: str
    values: np.ndarray
    clustering: Clustering
    weak: np.ndarray
    low: np.ndarray


def draw_folds(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> bytes:
    """PNG of the similarity that made the groups, a panel for each test fold."""
    panels = []
    for fold, result in folds.items():
        grouping = result.measures[settings.similarity]
        panels.append(
            Panel(
                f"Test fold {fold} ({result.num_materials} materials)",
                grouping.similarity.values,
                grouping.clustering,
                grouping.similarity.p_adjusted >= SIGNIFICANT,
                result.overlap.low,
            )
        )
    return draw_panels(
        panels,
        _labels(specs),
        "Similarity of targets in the training folds of each test fold",
        _short(settings.similarity),
        (*_NOTES, *_marks(f"adjusted p ≥ {SIGNIFICANT}")),
    )


def draw_measures(
    folds: Mapping[int, FoldGroups], specs: Sequence[TargetSpec], settings: Settings
) -> bytes:
    """PNG of every similarity that was computed, a panel for each, the mean over test folds."""
    panels = []
    for name in settings.similarities:
        found = [result.measures[name].similarity for result in folds.values()]
        mean = np.mean([similarity.values for similarity in found], axis=0)
        panels.append(
            Panel(
                _short(name),
                mean,
                cluster(mean, settings.num_groups),
                np.max([similarity.p_adjusted for similarity in found], axis=0) >= SIGNIFICANT,
                np.any([result.overlap.low for result in folds.values()], axis=0),
            )
        )
    return draw_panels(
        panels,
        _labels(specs),
        "Similarity of targets by each measure, mean over the folds",
        "Similarity",
        (
            *_NOTES,
            "Here groups of the mean, for comparison:",
            "those of the config are made fold by fold.",
            *_marks(f"adjusted p ≥ {SIGNIFICANT} in a fold"),
        ),
    )


def draw_panels(
    panels: Sequence[Panel], labels: Sequence[str], title: str, scale: str, notes: Sequence[str]
) -> bytes:
    """PNG of small multiples, each ordered by its own tree.

    Args:
        labels: [T] names of the targets.
        title: of the figure.
        scale: what the colours show.
        notes: lines of the legend beside those on marks.
    """
    style = STYLE | {"figure.constrained_layout.use": False, "axes.grid": False}
    with matplotlib.rc_context(style):
        return _png(_figure(panels, labels, title, scale, notes))


def _figure(
    panels: Sequence[Panel], labels: Sequence[str], title: str, scale: str, notes: Sequence[str]
) -> Figure:
    margin = 0.25 + 0.066 * max(map(len, labels))  # inches, of names left of and below a map
    edge = _CELL * len(labels)
    width = max(margin + edge + _GAP, _NARROWEST)
    height = _TITLE + _TREE + edge + margin + 0.1
    columns = min(_COLUMNS, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)  # one place for the legend
    size = columns * width, rows * height + 0.45
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    figure.text(0.15 / size[0], 1 - 0.3 / size[1], title, fontsize=12, weight="bold")
    for place in range(len(panels) + 1):
        row, column = divmod(place, columns)
        left = column * width
        bottom = size[1] - 0.45 - (row + 1) * height

        def axes(x: float, y: float, w: float, h: float, left=left, bottom=bottom) -> Axes:
            """Axes at inches from the panel's lower left corner."""
            place = (left + x) / size[0], (bottom + y) / size[1], w / size[0], h / size[1]
            return figure.add_axes(place)

        if place == len(panels):
            legend = axes(0.4, 0, width - 0.4, height - _TITLE)
            bar = axes(0.4, height - _TITLE - 0.35, min(2.6, width - 0.8), 0.16)
            _draw_legend(legend, bar, scale, notes, height - _TITLE)
            continue
        panel = panels[place]
        heat = axes(margin, margin, edge, edge)
        order = _draw_tree(axes(margin, margin + edge, edge, _TREE), panel)
        _draw_map(heat, panel, labels, order)
        figure.text(
            (left + margin) / size[0], (bottom + height - 0.22) / size[1], panel.title,
            weight="bold", fontsize=9.5,
        )
    return figure


def _draw_tree(axes: Axes, panel: Panel) -> np.ndarray:
    """Draws the dendrogram above a map and returns the order of its leaves."""
    axes.set(xlim=(-0.5, len(panel.values) - 0.5), ylim=(0, 1), xticks=[], yticks=[0, 0.5, 1])
    axes.tick_params(labelsize=6.5, length=2, pad=1)
    axes.set_ylabel("1 − similarity", fontsize=6.5, labelpad=1)
    axes.spines["bottom"].set_visible(False)
    linkage, groups = panel.clustering.linkage, panel.clustering.groups
    if not len(linkage):
        return np.arange(len(panel.values))
    size = len(panel.values)
    within = size + size - len(groups)  # scipy numbers merges from T on; the first make the groups
    tree = hierarchy.dendrogram(
        linkage, no_plot=True, link_color_func=lambda k: VERMILION if k < within else GREY
    )
    for x, y, colour in zip(tree["icoord"], tree["dcoord"], tree["color_list"], strict=True):
        line = 1.5 if colour == VERMILION else 1.0
        # scipy puts leaves at 5, 15, 25, ...
        axes.plot((np.array(x) - 5) / 10, y, color=colour, linewidth=line, solid_joinstyle="miter")
    return np.array(tree["leaves"])


def _draw_map(axes: Axes, panel: Panel, labels: Sequence[str], order: np.ndarray) -> None:
    values = panel.values[np.ix_(order, order)]
    axes.imshow(values, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto")
    names = [labels[i] for i in order]
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90, fontsize=7.5)
    axes.set_yticks(ticks, names, fontsize=7.5)
    axes.tick_params(length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (row, column), value in np.ndenumerate(values):
        if row == column:
            continue
        text = f"{value:.2f}".replace("0.", ".", 1)
        if panel.weak[order[row], order[column]]:
            text = f"({text})"
        if panel.low[order[row], order[column]]:
            text += "*"
        colour = "white" if value < 0.5 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    place = {target: position for position, target in enumerate(order.tolist())}
    for group in panel.clustering.groups:
        start = min(place[target] for target in group) - 0.5
        axes.add_patch(
            Rectangle(
                (start, start), len(group), len(group), fill=False, edgecolor=VERMILION,
                linewidth=2, clip_on=False,
            )
        )


def _draw_legend(axes: Axes, bar: Axes, scale: str, notes: Sequence[str], height: float) -> None:
    axes.set_axis_off()
    colours = ScalarMappable(Normalize(0, 1), _COLOURS)
    axes.figure.colorbar(colours, cax=bar, orientation="horizontal", ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.tick_params(labelsize=7.5, length=2)
    bar.set_title(scale, fontsize=8.5, weight="normal")
    bar.spines[:].set_visible(False)
    axes.text(
        0, 1 - 0.75 / height, "\n".join(notes), transform=axes.transAxes, va="top", fontsize=8,
        linespacing=1.5,
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _marks(weak: str) -> tuple[str, ...]:
    """Lines of the legend on what stands beside a number."""
    return (
        f"(.12)  {weak}",
        f"  .12*  under {100 * LOW_OVERLAP:.0f} % of the materials shared",
    )


def _labels(specs: Sequence[TargetSpec]) -> list[str]:
    """What was compared: extensive targets are divided as they are for training."""
    per = {None: "", "electron": " / electron", "volume": " / volume"}
    return [spec.label + per[spec.per] for spec in specs]


def _short(measure: str) -> str:
    """Name of a measure above a panel."""
    return {
        "pearson": "Pearson, absolute",
        "spearman": "Spearman, absolute",
        "mutual_information": "Informational correlation",
    }.get(measure, measure.replace("_", " ").capitalize())
