"""What a model may see of the cores of atoms: accuracy, and agreement between pseudo densities.

    python -m benchmarks.core --workdir=DIR --data_dir=data [--files CHGCAR ...]

For each way to see a density (`VIEWS`), the Gaussian processes of the yardsticks 'invariants',
'density' and 'all' are fitted on three of the folds 1 to 4 and asked of the fourth; fold 0 is never
opened. Copies of every second material of fold 1 whose cores were altered (`ALTERED`) tell what
another code would change. Further files are predicted as a check, which chooses nothing. A view
takes about a minute; DIR/VIEW.json is kept, so that a rerun goes on. DIR/tables.md has the tables.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core_views import ALTERED, VIEWS, Array, Record, View
from densityjax.configs import elastic
from densityjax.data.dataset import open_from_config
from densityjax.data.record_index import PartialSource
from densityjax.density.reader import read_density
from densityjax.density.record import make_record
from densityjax.features.descriptors import Descriptors, fit_descriptors
from densityjax.features.record_features import PER_ATOM, record_features
from densityjax.results.yardsticks import Yardstick, fit_all
from densityjax.runtime.files import replace_json, replace_text
from densityjax.targets import get_specs
from densityjax.training.setup import load_folds

TARGETS = (
    "bulk_modulus", "total_energy", "formation_energy_per_atom", "fermi_energy", "band_gap",
    "bandwidth",
)
LEARNERS = ("invariants", "density", "all")
FOLDS = (1, 2, 3, 4)
COPIED = 1  # the fold whose materials get altered cores, every second of them
COVERAGE = 0.9  # of intervals that are as wide as the residuals of unaltered materials say


class Data:
    """Records of the folds, with their densities, and further files."""

    def __init__(self, data_dir: str, files: Sequence[Path]):
        config = elastic.get_config()
        config.data.data_dir = data_dir
        self.specs = get_specs(TARGETS)
        builder = open_from_config(config.data)
        names = ("density", "lattice", "positions", "species", "num_electrons")
        self.labels: dict[int, dict[str, Array]] = {}
        self.stored: dict[int, list[Record]] = {}
        for fold in FOLDS:
            labels = load_folds(config, builder, self.specs, [fold], False, features=False).labels
            source = PartialSource(builder, f"fold{fold}", names)
            self.labels[fold], self.stored[fold] = labels, [source[i] for i in range(len(source))]
        grid = self.stored[FOLDS[0]][0]["density"].shape[0]
        self.files = [make_record(read_density(path), grid) for path in files]


def _features(records: Sequence[Record], view: View) -> list[dict[str, Array]]:
    """Features of records as they are seen."""

    def found(record: Record) -> dict[str, Array]:
        seen = view(*(record[name] for name in ("density", "lattice", "positions")))
        return record_features({**record, "density": np.asarray(seen, np.float32)})

    with ThreadPoolExecutor() as pool:
        return list(pool.map(found, records))


def _columns(found: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    return {
        name: [own[name] for own in found] if name in PER_ATOM
        else np.stack([own[name] for own in found])
        for name in found[0]
    }


def _cells(records: Sequence[Record]) -> tuple[Array, Array, Array]:
    """Lattices [n, 3, 3] Å, electrons [n], volumes [n] Å^3."""
    lattice = np.stack([record["lattice"] for record in records]).astype(np.float64)
    electrons = np.array([record["num_electrons"] for record in records], np.float64)
    return lattice, electrons, np.abs(np.linalg.det(lattice))


class Fitted:
    """What is fitted to the training folds, and asked."""

    def __init__(self, data: Data, features: Mapping[int, list], folds: Sequence[int]):
        records = [record for fold in folds for record in data.stored[fold]]
        lattice, electrons, volume = _cells(records)
        self._descriptors: Descriptors
        self._descriptors, complete = fit_descriptors(
            _columns([own for fold in folds for own in features[fold]]),
            [record["species"] for record in records], lattice, electrons, {}, identify=True,
        )
        labels = {t: np.concatenate([data.labels[fold][t] for fold in folds]) for t in TARGETS}
        self._yardsticks: dict[str, Yardstick] = fit_all(
            complete, labels, data.specs, electrons, volume, names=LEARNERS, trees=()
        )

    def says(
        self, records: Sequence[Record], found: Sequence[Mapping[str, Array]]
    ) -> tuple[dict[str, dict[str, Array]], list[Array]]:
        """({learner: {target: [n]}}, elements that the density tells of each atom)."""
        lattice, electrons, volume = _cells(records)
        features = self._descriptors.complete(_columns(found), lattice, electrons)
        said = {}
        for name, yardstick in self._yardsticks.items():
            kinds = yardstick.predict(features, electrons, volume)
            said[name] = {t: np.mean([own[t] for own in kinds.values()], axis=0) for t in TARGETS}
        return said, self._descriptors.finder(features["surroundings"], electrons)


def _right(species: Sequence[Array], records: Sequence[Record]) -> float:
    """Share of the materials all of whose atoms are told right."""
    return float(np.mean([
        np.array_equal(told, record["species"])
        for told, record in zip(species, records, strict=True)
    ]))


def measure(data: Data, view: View) -> dict[str, Any]:
    """Accuracy, agreement and further files of one view, JSON-safe."""
    features = {fold: _features(data.stored[fold], view) for fold in FOLDS}
    result: dict[str, Any] = {"r2": {}, "right": {}}
    for fold in FOLDS:
        fitted = Fitted(data, features, [other for other in FOLDS if other != fold])
        said, species = fitted.says(data.stored[fold], features[fold])
        labels = data.labels[fold]
        result["r2"][fold] = {
            name: {t: _r2(labels[t], own[t]) for t in TARGETS} for name, own in said.items()
        }
        result["right"][fold] = _right(species, data.stored[fold])
        if fold == COPIED:
            result |= _agreement(data, view, fitted, said)
            result["files"] = _further(data, view, fitted)
    return result


def _r2(label: Array, said: Array) -> float:
    known = np.isfinite(label)
    error = np.square(said - label)[known].sum()
    return float(1 - error / np.square(label[known] - label[known].mean()).sum())


def _agreement(
    data: Data, view: View, fitted: Fitted, said: Mapping[str, Mapping[str, Array]]
) -> dict[str, Any]:
    """What altered cores change: mean change / MAE, coverage, and how much wider would cover."""
    labels = data.labels[COPIED]
    half = {name: {t: _width(labels[t], own[t]) for t in TARGETS} for name, own in said.items()}
    error = {
        name: {t: float(np.nanmean(np.abs(own[t] - labels[t]))) for t in TARGETS}
        for name, own in said.items()
    }
    records, result = data.stored[COPIED][::2], {}
    for alteration, altered in ALTERED.items():
        copies = [{**record, "density": altered(record)} for record in records]
        now, species = fitted.says(copies, _features(copies, view))
        result[alteration] = {"right": _right(species, records)} | {
            name: {
                t: {
                    "moved": float(np.abs(own[t] - said[name][t][::2]).mean()) / error[name][t],
                    "covered": float(np.mean(
                        np.abs(own[t] - labels[t][::2])[np.isfinite(labels[t][::2])]
                        <= half[name][t]
                    )),
                    "wider": _width(labels[t][::2], own[t])
                    / _width(labels[t][::2], said[name][t][::2]),
                }
                for t in TARGETS
            }
            for name, own in now.items()
        }
    return {"altered": result, "half_width": half}


def _width(label: Array, said: Array) -> float:
    """Half the width of an interval that holds a share `COVERAGE` of the labels."""
    return float(np.quantile(np.abs(said - label)[np.isfinite(label)], COVERAGE))


def _further(data: Data, view: View, fitted: Fitted) -> list[dict[str, Any]]:
    if not data.files:
        return []
    said, species = fitted.says(data.files, _features(data.files, view))
    return [
        {"species": [int(z) for z in species[row]]}
        | {name: {t: float(own[t][row]) for t in TARGETS} for name, own in said.items()}
        for row in range(len(data.files))
    ]


def _mean(values: Mapping[str, Any], *keys: str) -> float:
    """Over targets."""
    found = list(values.values())
    for key in keys:
        found = [own[key] for own in found]
    return float(np.mean(found))


def tables(results: Mapping[str, Mapping[str, Any]], files: Sequence[Path]) -> str:
    """Markdown of all views that were measured."""
    lines = [
        "| seen | " + " | ".join(f"R2 {name}" for name in LEARNERS) + " | elements right | "
        + " | ".join(f"moved, {name}" for name in LEARNERS) + " |",
        "|---" * (2 * len(LEARNERS) + 2) + "|",
    ]
    for view, result in results.items():
        scores = [
            np.mean([_mean(own[name]) for own in result["r2"].values()]) for name in LEARNERS
        ]
        moves = [
            np.mean([_mean(own[name], "moved") for own in result["altered"].values()])
            for name in LEARNERS
        ]
        right = np.mean(list(result["right"].values()))
        lines.append(
            f"| {VIEWS[view][0]} | " + " | ".join(f"{x:.4f}" for x in scores)
            + f" | {100 * right:.1f} % | " + " | ".join(f"{x:.2f}" for x in moves) + " |"
        )
    for key, title in (
        ("moved", "mean absolute change / MAE"), ("covered", "share within 90 % intervals"),
        ("wider", "factor by which intervals would have to be wider"),
    ):
        lines += ["", f"Altered cores, {title} (invariants / density / all):", ""]
        lines += ["| altered | " + " | ".join(VIEWS[view][0] for view in results) + " |"]
        lines += ["|---" * (len(results) + 1) + "|"]
        for alteration in ALTERED:
            cells = [
                " / ".join(
                    f"{_mean(own['altered'][alteration][name], key):.2f}" for name in LEARNERS
                )
                for own in results.values()
            ]
            lines.append(f"| {alteration} | " + " | ".join(cells) + " |")
    for place, path in enumerate(files):
        lines += ["", f"{path.name}: told elements; K [GPa], formation energy [eV], gap [eV]", ""]
        lines += ["| seen | elements | " + " | ".join(LEARNERS) + " |", "|---" * 5 + "|"]
        for view, result in results.items():
            own = result["files"][place]
            cells = [
                f"{own[n]['bulk_modulus']:.0f}, {own[n]['formation_energy_per_atom']:.2f}, "
                f"{own[n]['band_gap']:.2f}" for n in LEARNERS
            ]
            lines.append(f"| {VIEWS[view][0]} | {own['species']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--views", nargs="*", default=list(VIEWS), choices=VIEWS)
    parser.add_argument("--files", nargs="*", type=Path, default=[], help="predicted as a check")
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    data, results = None, {}
    for name in arguments.views:
        path = arguments.workdir / f"{name}.json"
        if not path.exists():
            data = data or Data(arguments.data_dir, arguments.files)
            print(name, flush=True)
            replace_json(path, measure(data, VIEWS[name][1]))
        results[name] = json.loads(path.read_text())
    replace_text(arguments.workdir / "tables.md", tables(results, arguments.files))


if __name__ == "__main__":
    main()
