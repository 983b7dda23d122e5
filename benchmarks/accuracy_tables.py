"""The tables of benchmarks.accuracy: scores, paired differences, a learning curve.

R2 is that of all materials, each predicted once, when its fold was the test fold. Intervals are
2.5 to 97.5 % of a bootstrap that draws chemical systems.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from densityjax.config import completed
from densityjax.configs import elastic
from densityjax.data.dataset import open_from_config
from densityjax.data.records import Records
from densityjax.report.style import BLUE, GREY, STYLE, VERMILION
from densityjax.results.gaussian_process import KINDS
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.runtime.files import replace_json, replace_text
from densityjax.targets import TargetSpec, get_specs
from densityjax.training.ensemble_mixture import Materials, load_materials, mix_members
from densityjax.training.setup import load_folds

FOLDS = (0, 1, 2, 3, 4)
SHARES = (0.125, 0.25, 0.5, 1.0)
SIX = (
    "bulk_modulus", "total_energy", "formation_energy_per_atom", "fermi_energy", "band_gap",
    "bandwidth",
)
REPLICATES = 4000
YARDSTICKS = ("composition", "invariants", "density", "both", "all")
# Rows that mix some of the learners of the ensemble 'best'.
_DENSITY = ("network", "invariants_laplacian", "invariants_rbf", "density_laplacian", "density_rbf")
_KERNELS = tuple(f"{name}_{kind}" for name in YARDSTICKS for kind in ("laplacian", "rbf"))
MIXTURES: dict[str, tuple[str, ...]] = {
    "density only": _DENSITY, "kernels only": _KERNELS, "everything": ("network", *_KERNELS),
}
SINGLE = {"density only, one run": _DENSITY}  # of the first member, weights from its validation

Values = dict[str, np.ndarray]  # {target: [n] in its unit}


@dataclasses.dataclass(frozen=True)
class Truth:
    """All materials of the five folds.

    Attributes:
        place: {material id: row}.
        systems: [n] chemical systems, fold: [n] the test fold.
        labels: {target: [n]} NaN = missing.
    """

    place: Mapping[str, int]
    systems: np.ndarray
    fold: np.ndarray
    labels: Values

    @classmethod
    def of(cls, parts: Sequence[Records], specs: Sequence[TargetSpec]) -> "Truth":
        """Of the records of each fold."""
        ids = [str(name) for part in parts for name in part.material_id]
        return cls(
            {name: row for row, name in enumerate(ids)},
            np.concatenate([part.chemical_system for part in parts]),
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            {s.name: np.concatenate([part.labels[s.name] for part in parts]) for s in specs},
        )

    def gathered(self, tables: Iterable[tuple[Sequence[str], Values]]) -> Values:
        """Predictions of several folds as one; NaN where there is none."""
        found = {name: np.full(len(self.fold), np.nan) for name in self.labels}
        for ids, values in tables:
            rows = [self.place[str(name)] for name in ids]
            for name, own in values.items():
                found[name][rows] = own
        return found


def write_tables(workdir: Path, out: Path, data_dir: str) -> None:
    """Writes results.json, tables.md and learning_curve.png for the folds that have finished."""
    out.mkdir(parents=True, exist_ok=True)
    config = elastic.get_config()
    config.data.data_dir = data_dir
    builder = open_from_config(config.data)
    first = RunDirectory(workdir / "best_fold0")
    specs = get_specs(tuple(first.read_config("targets")["targets"]))
    truth = Truth.of([load_folds(config, builder, specs, [fold], False) for fold in FOLDS], specs)
    folds = [
        fold for fold in FOLDS
        if RunDirectory(workdir / f"best_fold{fold}").metrics.exists()
        and (workdir / f"yardsticks_fold{fold}.npz").exists()
    ]
    rows = predictions(workdir, builder, specs, truth, folds)
    scores = Scores(truth, folds)
    result: dict[str, Any] = {
        "folds": folds, "rows": {name: scores.row(values) for name, values in rows.items()},
        "differences": {
            f"{a} - {b}": scores.difference(rows[a], rows[b]) for a, b in pairs(rows)
        },
        "curve": curve(workdir, specs, truth),
    }
    replace_json(out / "results.json", result)
    replace_text(out / "tables.md", markdown(result, specs))
    draw(result["curve"], out / "learning_curve.png")


def pairs(rows: Mapping[str, Values]) -> list[tuple[str, str]]:
    """What is compared with what."""
    wanted = [
        ("density only, one run", "invariants"), ("density only, one run", "plain CNN, one run"),
        ("density only", "invariants"), ("density only", "density"),
        ("density only", "composition"), ("density only", "plain CNN, ensemble"),
        ("everything", "kernels only"), *(("everything", name) for name in YARDSTICKS),
        ("everything", "density only"), ("everything", "plain CNN, ensemble"),
    ]
    return [pair for pair in wanted if set(pair) <= set(rows)]


def predictions(
    workdir: Path, builder: Any, specs: Sequence[TargetSpec], truth: Truth, folds: Sequence[int]
) -> dict[str, Values]:
    """Every row of the table, for the materials of some folds."""
    parts: dict[str, list[tuple[Sequence[str], Values]]] = {}
    for fold in folds:
        ensemble = RunDirectory(workdir / f"best_fold{fold}")
        members = ensemble.members()
        configs = [completed(run.read_config()) for run in members]
        for config in configs:
            config.data.data_dir = str(Path(builder.data_dir_root))
        materials = {s: load_materials(configs, builder, specs, s) for s in SPLITS}
        alone = {s: load_materials(configs[:1], builder, specs, s) for s in SPLITS}
        whole = kernels(workdir, fold, specs, materials["test"])
        for name, learners in MIXTURES.items():
            _, tables, _ = mix_members(learners, members, specs, materials, whole)
            parts.setdefault(name, []).append(_values(tables["test"]))
        for name, learners in SINGLE.items():
            own = member_kernels(members[0], learners, specs, materials["test"])
            _, tables, _ = mix_members(learners, members[:1], specs, alone, own)
            parts.setdefault(name, []).append(_values(tables["test"]))
        plain = RunDirectory(workdir / f"paper_fold{fold}")
        if plain.metrics.exists():
            for name, run in (
                ("plain CNN, ensemble", plain), ("plain CNN, one run", plain.members()[0]),
            ):
                found = list(run.read_predictions(specs).values())
                parts.setdefault(name, []).append(_values(found))
        for name in YARDSTICKS:
            ids = list(materials["test"].place)
            parts.setdefault(name, []).append((ids, whole[f"{name}_mean"]))
    return {name: truth.gathered(own) for name, own in parts.items() if len(own) == len(folds)}


def kernels(
    workdir: Path, fold: int, specs: Sequence[TargetSpec], test: Materials
) -> dict[str, Values]:
    """{learner: predictions} of yardsticks_foldN.npz, in the order of the materials."""
    with np.load(workdir / f"yardsticks_fold{fold}.npz") as content:
        rows = np.argsort(test.rows([str(name) for name in content["ids"]]))
        return {
            f"{name}_{kind}": {s.name: content[f"{name}_{kind}/{s.name}"][rows] for s in specs}
            for name in YARDSTICKS for kind in (*KINDS, "mean")
        }


def member_kernels(
    run: RunDirectory, learners: Sequence[str], specs: Sequence[TargetSpec], test: Materials
) -> dict[str, Values]:
    """The same of a member, fitted to its training rows alone."""
    found = {}
    for name in learners:
        tables = run.read_learner(name, specs)
        rows = np.argsort(test.rows(tables[specs[0].name].ids))
        found[name] = {target: table.prediction[rows] for target, table in tables.items()}
    return found


def _values(tables: Sequence[TargetPredictions]) -> tuple[Sequence[str], Values]:
    return tables[0].ids, {table.spec.name: table.prediction for table in tables}


class Scores:
    """R2 and errors of the materials of some folds, with intervals over chemical systems."""

    def __init__(self, truth: Truth, folds: Sequence[int]):
        """Draws the systems, the same for every row of a table."""
        self._truth = truth
        self._rows = np.isin(truth.fold, folds)
        names, self._system = np.unique(truth.systems[self._rows], return_inverse=True)
        generator = np.random.default_rng(0)
        share = np.full(len(names), 1 / len(names))
        drawn = generator.multinomial(len(names), share, REPLICATES)
        # Row 0 is the data itself.
        self._counts = np.concatenate([np.ones((1, len(names))), drawn])  # [R + 1, systems]

    def r2(self, values: Values, target: str) -> np.ndarray:
        """[R + 1] of one target; the first is that of the data."""
        y, p = (part[target][self._rows] for part in (self._truth.labels, values))
        known = np.isfinite(y) & np.isfinite(p)

        def total(numbers: np.ndarray) -> np.ndarray:
            per_system = np.bincount(
                self._system[known], numbers[known], self._counts.shape[1]
            )
            return self._counts @ per_system

        count, mean = total(np.ones_like(y)), total(y) / total(np.ones_like(y))
        spread = total(y**2) - count * mean**2
        return 1 - total((y - p) ** 2) / spread

    def average(self, values: Values) -> np.ndarray:
        """[R + 1] mean over the six targets."""
        return np.mean([self.r2(values, name) for name in SIX], axis=0)

    def row(self, values: Values) -> dict[str, Any]:
        """Scores of one model."""
        found = {name: interval(self.r2(values, name)) for name in values}
        errors = {}
        for name, own in values.items():
            error = np.abs(own - self._truth.labels[name])[self._rows]
            errors[name] = float(np.nanmean(error))
        by_fold = [Scores(self._truth, [fold]) for fold in np.unique(self._truth.fold[self._rows])]
        return {
            "average": interval(self.average(values)), "r2": found, "mae": errors,
            "average_by_fold": [float(one.average(values)[0]) for one in by_fold],
        }

    def difference(self, a: Values, b: Values) -> dict[str, Any]:
        """Paired differences of R2."""
        return {
            "average": interval(self.average(a) - self.average(b)),
            **{name: interval(self.r2(a, name) - self.r2(b, name)) for name in a},
        }


def interval(draws: np.ndarray) -> list[float]:
    """Estimate, lower and upper end."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return [float(draws[0]), float(low), float(high)]


def curve(
    workdir: Path, specs: Sequence[TargetSpec], truth: Truth
) -> dict[str, dict[str, list[float]]]:
    """Average R2 over the folds that have finished, at each share of the training systems."""
    sources: dict[str, Callable[[RunDirectory], dict[str, TargetPredictions]]] = {
        "plain CNN": lambda run: run.read_predictions(specs),
        "invariants": lambda run: run.read_learner("invariants_mean", specs),
        "everything": lambda run: run.read_predictions(specs),
    }
    folder = {"plain CNN": "paper", "invariants": "paper", "everything": "best"}
    found: dict[str, dict[str, list[float]]] = {}
    for name, read in sources.items():
        for share in SHARES:
            parts, folds = [], []
            for fold in FOLDS:
                run = RunDirectory(workdir / f"curve_{folder[name]}_{share:g}_fold{fold}")
                if run.metrics.exists():
                    parts.append(_values(list(read(run).values())))
                    folds.append(fold)
            if folds:
                own = Scores(truth, folds)
                values = truth.gathered(parts)
                found.setdefault(name, {})[f"{share:g}"] = interval(own.average(values))
    return found


def markdown(result: Mapping[str, Any], specs: Sequence[TargetSpec]) -> str:
    """The tables."""
    names = [spec.name for spec in specs]
    header = ["R2", "average of six", *(spec.label for spec in specs)]
    lines = [f"Test folds: {', '.join(map(str, result['folds']))}.", "", _line(header),
             _line(["---"] * len(header))]
    for row, own in result["rows"].items():
        cells = [_interval(own["average"]), *(f"{own['r2'][name][0]:.3f}" for name in names)]
        lines.append(_line([row, *cells]))
    header[0] = "mean absolute error"
    header[1] = "average R2 by test fold"
    lines += ["", _line(header), _line(["---"] * len(header))]
    for row, own in result["rows"].items():
        folds = ", ".join(f"{value:.3f}" for value in own["average_by_fold"])
        lines.append(_line([row, folds, *(f"{own['mae'][name]:.3g}" for name in names)]))
    header = ["difference of R2", "average of six", *(spec.label for spec in specs)]
    lines += ["", _line(header), _line(["---"] * len(header))]
    for pair, own in result["differences"].items():
        lines.append(_line([pair, *(_signed(own[name]) for name in ("average", *names))]))
    shares = sorted({share for own in result["curve"].values() for share in own}, key=float)
    header = ["average R2 at a share of the training systems", *shares]
    lines += ["", _line(header), _line(["---"] * len(header))]
    for name, own in result["curve"].items():
        cells = [_interval(own[share]) if share in own else "" for share in shares]
        lines.append(_line([name, *cells]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _interval(values: Sequence[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def _signed(values: Sequence[float]) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*values)


def draw(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Error that is left, 1 - R2, against the share of the training systems."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.2, 3.6))
        for (name, own), colour, mark in zip(
            curves.items(), (VERMILION, BLUE, GREY), ("o", "s", "^"), strict=False
        ):
            shares = sorted(own, key=float)
            x = np.array([float(share) for share in shares])
            centre, low, high = 1 - np.array([own[share] for share in shares]).T
            axes.errorbar(
                x, centre, yerr=[centre - high, low - centre], color=colour, marker=mark,
                capsize=2, label=name,
            )
        axes.set(
            xscale="log", yscale="log", xlabel="share of the training systems",
            ylabel="1 - R2, average of six targets",
        )
        axes.minorticks_off()
        axes.set_xticks([0.125, 0.25, 0.5, 1], ["1/8", "1/4", "1/2", "1"])
        left = [0.05, 0.1, 0.2, 0.4]
        axes.set_yticks(left, [f"{value:g}" for value in left])
        axes.legend()
        figure.savefig(path)
        plt.close(figure)
