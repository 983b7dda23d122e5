"""How intervals kept their promise on the test fold: rows and figures of a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from densityjax.report.figures import Picture, axes_of, picture
from densityjax.report.run_files import FinishedRun
from densityjax.report.style import INK, STYLE
from densityjax.report.text import number


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _with_bounds(found: Mapping[str, Any]) -> str:
    if "coverage" not in found:
        return "–"
    return f"{_share(found['coverage'])} ({_share(found['low'])} to {_share(found['high'])})"


def _elements(found: Mapping[str, Any] | None) -> str:
    """Mean coverage of elements that were left out, by the others left out (and as usual)."""
    if found is None:
        return "–"
    return f"{_share(found['by_others'])} ({_share(found['usual'])})"


def interval_rows(run: FinishedRun) -> dict[str, Any]:
    """Rows of the tables: 'regression', 'classes', 'parts', 'least_sure'; {} without intervals."""
    known = run.intervals.get("targets", {})
    if not known:
        return {}
    regression = [(s, known[s.name]) for s in run.of_kind("regression") if s.name in known]
    classes = [(s, known[s.name]) for s in run.of_kind("classification") if s.name in known]
    parts = dict.fromkeys(name for _, own in regression for name in own["parts"])
    return {
        "source": run.intervals["source"],
        "regression": [
            {
                "spec": spec, "n": own["n"], "coverage": _with_bounds(own),
                "by_system": _share(own["by_system"]), "constant": _share(own["constant_coverage"]),
                "width": number(own["width"]), "narrower": _share(own["narrower"]),
                "rank": f"{own['rank']:.2f}", "elements": _elements(own["elements"]),
            }
            for spec, own in regression
        ],
        "classes": [
            {
                "spec": spec, "n": own["n"], "coverage": _with_bounds(own),
                "size": f"{own['size']:.2f}", "single": _share(own["single"]),
                "parts": "; ".join(
                    f"{name} {_share(part['coverage'])} of {part['n']}"
                    for name, part in own["parts"].items()
                ),
            }
            for spec, own in classes
        ],
        "columns": [spec.label for spec, _ in regression],
        "parts": [
            (name, [_share(own["parts"].get(name, {}).get("coverage")) for _, own in regression])
            for name in parts
        ],
        "least_sure": [
            {"spec": spec, **row} for spec, own in regression for row in own["least_sure"]
        ],
    }


def plot_coverage(axes: Axes, levels: Mapping[str, Mapping[str, float]]) -> None:
    """Promised against observed coverage.

    Args:
        levels: {target: {promised: observed}}.
    """
    # Dashed: a curve of a target may have any colour.
    axes.plot([0.45, 1], [0.45, 1], color=INK, linewidth=1, linestyle="--")
    for label, own in levels.items():
        axes.plot(list(map(float, own)), list(own.values()), "o-", markersize=3, label=label)
    axes.set(xlabel="Promised coverage", ylabel="Observed coverage")
    axes.legend(fontsize=7)


def draw_intervals(folder: Path, run: FinishedRun) -> list[Picture]:
    """Promised against observed coverage, and mean error against mean width."""
    known = run.intervals.get("targets", {})
    targets = [(s.label, known[s.name]) for s in run.of_kind("regression") if s.name in known]
    if not targets:
        return []
    with matplotlib.rc_context(STYLE):
        promised, axes = axes_of(4.5, 4.2)
        plot_coverage(axes, {label: own["levels"] for label, own in targets})
        ranked, axes = axes_of(4.5, 4.2)
        for label, own in targets:
            widths, errors = zip(*own["by_width"], strict=True)
            wide, large = sum(widths) / len(widths), sum(errors) / len(errors)
            if wide > 0 and large > 0:
                axes.plot(
                    [w / wide for w in widths], [e / large for e in errors], "o-", markersize=3,
                    label=label,
                )
        axes.set(xlabel="Width of a fifth / mean width", ylabel="Error of a fifth / mean error")
        axes.legend(fontsize=7)
        return [
            picture(folder, "interval_coverage", promised,
                    "Observed against promised coverage of the intervals of each target"),
            picture(folder, "interval_widths", ranked,
                    "Mean error of the fifths of the materials by the width of their intervals"),
        ]
