"""Intervals of finished ensembles on the folds that these never saw, pooled over the folds.

    python -m benchmarks.intervals --workdir=runs/accuracy --prefix=best_fold \\
        --folds=runs/accuracy/intervals --out=docs/results/intervals

WORKDIR/best_fold0 to best_fold4 are runs of configs/elastic_best.py, each with another test fold
(benchmarks/accuracy.py makes them); those that have finished are taken. What a fold gave is kept in
FOLDS/fold0.json and so on, and not made again. Calibrations are made in memory, no run is written
to.
Nothing is chosen here: every choice is made on the out-of-fold rows of each run.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from densityjax.report.intervals import plot_coverage
from densityjax.report.style import STYLE
from densityjax.results import coverage
from densityjax.results.calibration import ClassCalibration
from densityjax.results.run_directory import RunDirectory
from densityjax.targets import labelled
from densityjax.training.calibrate import gather, make_calibration, open_run

mpl.use("Agg")
import matplotlib.pyplot as plt


def measure_fold(run: RunDirectory, data_dir: str) -> dict[str, Any]:
    """Rows of the test fold of a run, JSON-safe."""
    start = time.perf_counter()
    calibration = make_calibration(run, data_dir)
    seconds = time.perf_counter() - start
    config, builder, specs = open_run(run, data_dir)
    known = gather(run, builder, specs, "test", calibration.reference)
    gap = known.tables["band_gap"].truth if "band_gap" in known.tables else None
    metal = None if gap is None else np.where(np.isfinite(gap), gap <= 0, np.nan)
    parts = coverage.strata(known.evidence, metal)
    targets: dict[str, Any] = {}
    for spec in specs:
        table = known.tables[spec.name]
        own = calibration.targets[spec.name]
        if isinstance(own, ClassCalibration):
            rows = np.flatnonzero(labelled(spec, table.truth))
            sets = own.sets(table.prediction[rows], 0.9)
            truth = table.truth[rows].astype(int)
            targets[spec.name] = {
                "rows": rows.tolist(), "truth": truth.tolist(), "kind": own.kind,
                "held": sets[np.arange(len(rows)), truth].tolist(),
                "size": sets.sum(axis=1).tolist(), "classes": list(spec.classes),
            }
            continue
        found = coverage.hold(calibration, spec, known.evidence, table.truth)
        targets[spec.name] = {
            "rows": found.rows.tolist(), "error": found.error.tolist(),
            "held": {f"{c:g}": v.tolist() for c, v in found.held.items()},
            "width": {f"{c:g}": v.tolist() for c, v in found.width.items()},
            "constant_held": found.constant_held.tolist(),
            "constant_width": found.constant_width.tolist(),
        }
    return {
        "fold": config.data.test_fold, "source": calibration.source, "seconds": round(seconds, 1),
        "facts": calibration.facts, "systems": known.systems.tolist(),
        "parts": {name: np.flatnonzero(part).tolist() for name, part in parts.items()},
        "targets": targets,
    }


def pool(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`coverage.measure` of every target over all rows of the folds."""
    starts = np.cumsum([0, *(len(fold["systems"]) for fold in folds)])
    systems = np.array([s for fold in folds for s in fold["systems"]])
    names = dict.fromkeys(name for fold in folds for name in fold["parts"])
    parts = {name: np.zeros(len(systems), bool) for name in names}
    for start, fold in zip(starts, folds):
        for name, rows in fold["parts"].items():
            parts[name][start + np.array(rows, int)] = True
    found = {}
    for target, first in folds[0]["targets"].items():
        own = [(start, fold["targets"][target]) for start, fold in zip(starts, folds)]

        def joined(key: str, level: str = "", own: Sequence = own) -> np.ndarray:
            return np.concatenate([p[key][level] if level else p[key] for _, p in own])

        rows = np.concatenate([start + np.array(part["rows"], int) for start, part in own])
        if "classes" in first:
            held, truth, size = joined("held").astype(bool), joined("truth"), joined("size")
            found[target] = coverage.coverage_of(held, systems[rows]) | {
                "size": float(size.mean()), "single": float((size == 1).mean()),
                "kinds": sorted({part["kind"] for _, part in own}),
                "parts": {
                    name: coverage.coverage_of(held[truth == k], systems[rows][truth == k])
                    for k, name in enumerate(first["classes"])
                },
            }
            continue
        held = coverage.Held(
            rows, joined("error"),
            {float(c): joined("held", c).astype(bool) for c in first["held"]},
            {float(c): joined("width", c) for c in first["held"]},
            joined("constant_held").astype(bool), joined("constant_width"),
        )
        found[target] = coverage.measure(held, systems, parts)
    return found


def tables(pooled: dict[str, Any], folds: Sequence[dict[str, Any]]) -> str:
    """Markdown of the pooled results."""
    numbers = ", ".join(str(fold["fold"]) for fold in folds)
    lines = [
        f"Test folds {numbers} pooled; 90 % intervals; 95 % bootstrap over chemical systems in "
        "brackets. *narrower*: mean width against intervals of one width for all materials, of the "
        "same promise. *rank*: Spearman's correlation of width and absolute error.", "",
        "| target | n | coverage | by system | one width covers | narrower | farthest fifth "
        "(one width) | rank |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in pooled.items():
        if "levels" not in own:
            continue
        far = own["parts"].get("distance, fifth 5", {})
        lines.append(
            f"| {name} | {own['n']} | {own['coverage']:.3f} [{own['low']:.3f}, {own['high']:.3f}] "
            f"| {own['by_system']:.3f} | {own['constant_coverage']:.3f} | "
            f"{100 * own['narrower']:.1f} % | {far.get('coverage', float('nan')):.3f} "
            f"({far.get('constant', float('nan')):.3f}) | {own['rank']:.2f} |"
        )
    classes = {name: own for name, own in pooled.items() if "levels" not in own}
    if classes:
        lines += [
            "", "| classes | n | coverage | mean size of a set | sets of one class | by class |",
            "|---|---|---|---|---|---|",
        ]
    for name, own in classes.items():
        parts = own["parts"].items()
        each = ", ".join(f"{k} {v.get('coverage', '-')} ({v['n']})" for k, v in parts)
        lines.append(
            f"| {name} | {own['n']} | {own['coverage']:.3f} [{own['low']:.3f}, {own['high']:.3f}] "
            f"| {own['size']:.2f} | {100 * own['single']:.0f} % | {each} |"
        )
    regression = {name: own for name, own in pooled.items() if "levels" in own}
    lines += _new_elements(folds)
    parts = list(dict.fromkeys(part for own in regression.values() for part in own["parts"]))
    lines += ["", "Coverage by part:", "", f"| part | {' | '.join(regression)} |",
              f"|---{'|---' * len(regression)}|"]
    for part in parts:
        cells = [own["parts"].get(part, {}).get("coverage") for own in regression.values()]
        cells = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _new_elements(folds: Sequence[dict[str, Any]]) -> list[str]:
    """Coverage of elements that were left out of the training folds, mean over the runs."""
    found = {}
    for name in folds[0]["facts"]:
        own = [fold["facts"][name].get("elements_left_out") for fold in folds]
        if None not in own:
            found[name] = {key: float(np.mean([part[key] for part in own])) for key in own[0]}
    if not found:
        return []
    return [
        "",
        "Elements left out of the kernels, mean over the elements and the runs (of the training "
        "folds; the network takes no part): coverage by thresholds as usual, and by those of the "
        "other elements left out; in brackets the worst element of a run, mean over the runs.",
        "",
        "| target | elements | as usual | by other elements |", "|---|---|---|---|",
        *(
            f"| {name} | {own['elements']:.0f} | {own['usual']:.3f} ({own['worst_usual']:.2f}) | "
            f"{own['by_others']:.3f} ({own['worst_by_others']:.2f}) |"
            for name, own in found.items()
        ),
    ]


def plot(pooled: dict[str, Any], path: Path) -> None:
    """Promised against observed coverage."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.2, 4.2))
        plot_coverage(axes, {k: own["levels"] for k, own in pooled.items() if "levels" in own})
        figure.savefig(path)
        plt.close(figure)


def main() -> None:
    """Measures what is missing and writes everything anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of the runs")
    parser.add_argument("--prefix", default="best_fold", help="of the runs' names")
    parser.add_argument("--name", default="", help="of what is written, 'classes'")
    parser.add_argument("--out", required=True)
    parser.add_argument("--folds", default="", help="folder of what each fold gave, not OUT")
    parser.add_argument("--data_dir", default="", help="where the dataset is now")
    options = parser.parse_args()
    out = Path(options.out)
    for folder in (out, Path(options.folds or out)):
        folder.mkdir(parents=True, exist_ok=True)
    prefix, folds = f"{options.name}_" if options.name else "", []
    for number in range(5):
        run = RunDirectory(Path(options.workdir) / f"{options.prefix}{number}")
        path = Path(options.folds or out) / f"{prefix}fold{number}.json"
        if not path.exists():
            if not run.metrics.exists():
                print(f"{run.path}: not finished")
                continue
            path.write_text(json.dumps(measure_fold(run, options.data_dir)) + "\n")
        folds.append(json.loads(path.read_text()))
    pooled = pool(folds)
    (out / f"{prefix}pooled.json").write_text(json.dumps(pooled, indent=1) + "\n")
    text = tables(pooled, folds)
    (out / f"{prefix}tables.md").write_text(text)
    print(text)
    if any("levels" in own for own in pooled.values()):
        plot(pooled, out / f"{prefix}calibration.png")


if __name__ == "__main__":
    main()
