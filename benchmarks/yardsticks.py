"""R2 of the yardsticks on elastic_densities: what features without a network reach.

    python -m benchmarks.yardsticks --json benchmarks/results/yardsticks.json

The settings come from the training rows alone; features and learners were chosen on fold 1 of 2.0,
trained on folds 2 to 4, and never on fold 0. Dataset 2.0 is read from --elastic, if it is there;
1.0 are the materials of the archive that ships.
"""

import argparse
import csv
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.density.reader import read_density_bytes
from densityjax.density.record import make_record
from densityjax.features.composition import composition_features
from densityjax.features.invariants import NAMES, record_invariants
from densityjax.results.metrics import Metrics
from densityjax.results.yardsticks import fit_all
from densityjax.runtime.files import replace_json
from densityjax.targets import TargetSpec, get_specs

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
ELASTIC = ROOT.parent / "shared/data/elastic_densities"
SIX = (
    "bulk_modulus", "total_energy", "formation_energy_per_atom", "fermi_energy", "band_gap",
    "bandwidth",
)
OTHERS = ("shear_modulus", "is_metal")
CASES = (("2-4", (2, 3, 4)), ("1-4", (1, 2, 3, 4)))


def _archive() -> Iterator[tuple[dict[str, str], bytes]]:
    with tarfile.open(ARCHIVE) as archive:
        text = archive.extractfile("labels.csv").read().decode()
        for row in csv.DictReader(io.StringIO(text)):
            yield row, archive.extractfile(row["file"]).read()


def _folder(folder: Path) -> Callable[[], Iterator[tuple[dict[str, str], bytes]]]:
    def rows() -> Iterator[tuple[dict[str, str], bytes]]:
        with (folder / "labels.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield row, (folder / row["file"]).read_bytes()

    return rows


def read_table(rows: Iterator[tuple[dict[str, str], bytes]], grid: int) -> dict[str, Any]:
    """Features, labels and cells of a dataset, and the CPU time of its invariants."""
    table: dict[str, list] = {"labels": [], "composition": [], "invariants": []}
    seconds = 0.0
    for row, data in rows:
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise SystemExit(f"{row['file']} is damaged: its sha256 is not the one in labels.csv")
        record = make_record(read_density_bytes(data, row["file"]), grid)
        start = time.process_time()
        table["invariants"].append(record_invariants(record))
        seconds += time.process_time() - start
        table["composition"].append(composition_features(record["species"], record["lattice"]))
        table["labels"].append(row)
    columns = {
        name: np.array([float(row[name] or "nan") for row in table["labels"]])
        for name in (*SIX, *OTHERS, "fold", "num_electrons", "volume")
    }
    columns["is_metal"] = np.nan_to_num(columns["is_metal"], nan=-1).astype(int)
    features = {name: np.stack(table[name]) for name in ("composition", "invariants")}
    return {"columns": columns, "features": features, "ms": 1e3 * seconds / len(table["labels"])}


def evaluate(
    table: dict[str, Any], specs: Sequence[TargetSpec], folds: Sequence[int], test: int
) -> dict[str, Any]:
    """Metrics on a fold of yardsticks trained on others."""
    columns, features = table["columns"], table["features"]
    train, held = np.isin(columns["fold"], folds), columns["fold"] == test

    def part(rows: np.ndarray) -> tuple[dict, dict, np.ndarray, np.ndarray]:
        blocks = {name: values[rows] for name, values in features.items()}
        labels = {spec.name: columns[spec.name][rows] for spec in specs}
        return blocks, labels, columns["num_electrons"][rows], columns["volume"][rows]

    blocks, labels, electrons, volume = part(train)
    start = time.perf_counter()
    yardsticks = fit_all(blocks, labels, specs, electrons, volume)
    seconds = time.perf_counter() - start
    metrics = {name: yardstick.metrics(*part(held)) for name, yardstick in yardsticks.items()}
    return {
        "trained_on": int(train.sum()), "test_materials": int(held.sum()),
        "fit_seconds": round(seconds, 1), "metrics": metrics,
        "six_target_r2": {name: _average(found) for name, found in metrics.items()},
    }


def _average(metrics: dict[str, Metrics]) -> float:
    return float(np.mean([metrics[name]["r2"] for name in SIX]))


def _show(title: str, result: dict[str, Any]) -> None:
    print(f"{title}: {result['trained_on']} materials, {result['fit_seconds']} s")
    short = ("K", "total", "formation", "Fermi", "gap", "bandwidth", "six", "shear", "metal AUC")
    print("  ".join(f"{name:>11}" for name in ("", *short)))
    for name, found in result["metrics"].items():
        values = [found[target]["r2"] for target in SIX]
        values += [
            result["six_target_r2"][name], found["shear_modulus"]["r2"],
            found["is_metal"]["roc_auc"],
        ]
        print("  ".join([f"{name:>11}", *(f"{value:11.3f}" for value in values)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--elastic", type=Path, default=ELASTIC, help="folder of dataset 2.0")
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    specs = get_specs((*SIX, *OTHERS))
    report: dict[str, Any] = {"grid": arguments.grid, "invariants": len(NAMES), "results": {}}
    sources = {"1.0": _archive}
    if (arguments.elastic / "labels.csv").exists():
        sources["2.0"] = _folder(arguments.elastic)
    for version, rows in sources.items():
        table = read_table(rows(), arguments.grid)
        print(f"dataset {version}: invariants {table['ms']:.1f} ms of CPU each")
        report[f"invariants_ms_{version}"] = round(table["ms"], 1)
        # Fold 1 is the one that features and learners were chosen on.
        cases = [("2-4", (2, 3, 4), 1), *((name, folds, 0) for name, folds in CASES)]
        for name, folds, test in cases if version == "2.0" else cases[1:2]:
            title = f"{version}, folds {name}, tested on fold {test}"
            report["results"][title] = evaluate(table, specs, folds, test)
            _show(title, report["results"][title])
    if arguments.json:
        replace_json(arguments.json, json.loads(json.dumps(report)))


if __name__ == "__main__":
    main()
