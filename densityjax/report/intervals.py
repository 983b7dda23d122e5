"""How intervals kept their promise on the test fold: rows and figures of a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

from densityjax.report.figures import Picture, axes_of, picture
from densityjax.report.run_files import FinishedRun
from densityjax.report.style import GREY, STYLE
from densityjax.report.text import number

_FIFTHS = tuple(f"distance, fifth {k}" for k in range(1, 6))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _with_bounds(found: Mapping[str, Any]) -> str:
    if "coverage" not in found:
        return "–"
    return f"{_share(found['coverage'])} ({_share(found['low'])} to {_share(found['high'])})"


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
                "rank": f"{own['rank']:.2f}",
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


def draw_intervals(folder: Path, run: FinishedRun) -> list[Picture]:
    """Promised against observed coverage, and mean error against mean width."""
    known = run.intervals.get("targets", {})
    targets = [(s.label, known[s.name]) for s in run.of_kind("regression") if s.name in known]
    if not targets:
        return []
    with matplotlib.rc_context(STYLE):
        promised, axes = axes_of(4.5, 4.2)
        axes.plot([0.45, 1], [0.45, 1], color=GREY, linewidth=1)
        for label, own in targets:
            levels = [float(level) for level in own["levels"]]
            axes.plot(levels, list(own["levels"].values()), "o-", markersize=3, label=label)
        axes.set(xlabel="Promised coverage", ylabel="Observed coverage")
        axes.legend(fontsize=7)
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
