"""Which modules does each held-out target want, and are they those with similar labels?

    python -m benchmarks.modules_weights --start=runs/start --workdir=runs/modules --out=OUT

From all labels of folds 2, 3 and 4 after benchmarks/modules.py; no network is trained. The rank
correlation is between what a composition says of a module (its weight, the mean over resamples, its
weight fitted once, or the error of its proxy, negated) and a similarity of labels as
densityjax.target_grouping measures it, over the modules that a target may use and shares 20
labelled materials with.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks.modules import ALL, HELD_OUT, Bench, composition_of, drawn_rows, prepare
from densityjax.report.style import INK, STYLE
from densityjax.runtime.files import replace_text
from densityjax.target_grouping.columns import MIN_SHARED, Column
from densityjax.target_grouping.measures import MEASURES, get_measure
from densityjax.targets import get_specs, to_intensive

SAID = ("weight", "fitted", "proxy")


def similarities(bench: Bench, measure: str) -> dict[str, dict[str, float | None]]:
    """{held-out target: {module: similarity, 0 to 1, None where few rows have both labels}}."""
    pool, columns = bench.pool, {}
    for spec in get_specs(tuple(bench.trunks)):
        values = to_intensive(spec, pool.labels[spec.name], pool.num_electrons, pool.volume)
        columns[spec.name] = Column(spec, values)
    compare, found = get_measure(measure, 3, 0), {}
    for target in HELD_OUT:
        found[target] = {}
        for name in bench.trunks:
            both = np.flatnonzero(columns[target].labelled & columns[name].labelled)
            if len(both) < MIN_SHARED:
                found[target][name] = None
                continue
            one, other = (columns[key].take(both) for key in (target, name))
            square = compare(one, other, np.arange(len(both))[None])[0]
            found[target][name] = float(np.sqrt(np.clip(square, 0, 1)))
    return found


def main() -> None:
    """Writes weights.json, weights.md and weights.png."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--start", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    bench = prepare(arguments.data_dir, arguments.start, arguments.workdir)
    said: dict[str, Any] = {}
    for target in HELD_OUT:
        (spec,) = get_specs((target,))
        _, found = composition_of(bench, spec, drawn_rows(bench, spec, ALL, 0), 0)
        proxies = found.proxies[found.kind]
        draws = found.weight_draws
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        said[target] = {
            "labels": found.labels, "proxy": found.kind, "mean_error": found.mean_error,
            "modules": {
                name: {
                    "weight": float(found.weights[place]),
                    "fitted": float(found.fitted[place]),
                    "low": float(low[place]), "high": float(high[place]),
                    "proxy": -float(proxies.errors[place]),
                }
                for place, name in enumerate(found.modules)
            },
        }
    ranks: dict[str, Any] = {}
    for measure in MEASURES:
        alike = similarities(bench, measure)
        for target, own in said.items():
            for name, row in own["modules"].items():
                row[measure] = alike[target][name]
        ranks[measure] = {key: {} for key in SAID}
        for key in SAID:
            for target, own in said.items():
                rows = [row for row in own["modules"].values() if row[measure] is not None]
                rank = spearmanr([row[key] for row in rows], [row[measure] for row in rows])
                ranks[measure][key][target] = float(rank.statistic)
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"targets": said, "rank_correlation": ranks}
    replace_text(arguments.out / "weights.json", json.dumps(content, indent=1) + "\n")
    replace_text(arguments.out / "weights.md", _tables(said, ranks))
    _draw(list(bench.trunks), said, arguments.out / "weights.png")


def _tables(said: dict[str, Any], ranks: dict[str, Any]) -> str:
    lines = ["| new target | labels | modules (weight; 90 % of resamples) |", "| --- | --- | --- |"]
    for target, own in said.items():
        rows = sorted(own["modules"].items(), key=lambda pair: -pair[1]["weight"])
        cells = [
            f"{name} {row['weight']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            for name, row in rows if row["weight"] > 0.02
        ]
        lines.append(f"| {target} | {own['labels']} | {', '.join(cells)} |")
    lines += ["", "| measure | " + " | ".join(SAID) + " |", "| --- |" + " --- |" * len(SAID)]
    for measure, own in ranks.items():
        cells = [
            f"{np.mean(list(own[key].values())):+.2f} "
            f"({min(own[key].values()):+.2f} to {max(own[key].values()):+.2f})" for key in SAID
        ]
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _draw(names: list[str], said: dict[str, Any], path: Path) -> None:
    """Weights as a heat map; modules that a target may not use are left white."""
    values = np.full((len(said), len(names)), np.nan)
    for row, own in enumerate(said.values()):
        for name, found in own["modules"].items():
            values[row, names.index(name)] = found["weight"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.6))
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if value > 0.02:
                colour = "white" if value < 0.6 else INK
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7
                )
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(said)), list(said))
        axes.set_title("Weight of each module (column) for a new target (row), all labels")
        figure.colorbar(image)
        figure.savefig(path)


if __name__ == "__main__":
    main()
