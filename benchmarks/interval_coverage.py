"""How often the intervals of an ablation's table hold the true value; 95 % is what they promise.

    python -m benchmarks.interval_coverage --json=benchmarks/results/interval_coverage.json

Two studies in which the truth is known. 'difference': two variants with normal labels and errors,
2 splits of 60 materials, 3 seeds; 9/10 of an error's variance belongs to the material and 1/10 to
the seed. 'average': one variant on 5 splits of 165 materials, drawn with 5 targets' real labels
from the elastic dataset, errors of Student's t with 4 degrees of freedom.
"""

import argparse
import csv
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from densityjax.ablation.compare import compare
from densityjax.ablation.results import AVERAGE, CellResult, Difference, Score
from densityjax.targets import get_specs

ARCHIVE = Path(__file__).parents[1] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
TARGETS = ("bulk_modulus", "shear_modulus", "volume", "density", "fermi_energy")
SCALES = {"a": 0.5, "b": 0.6}  # standard deviations of the errors, of that of the labels

Interval = tuple[float, Score | Difference]  # the truth, and the row that should hold it


def _cell(variant: str, split: int, seed: int, truth: dict, prediction: dict) -> CellResult:
    """Every material is a chemical system of its own."""
    size = len(next(iter(truth.values())))
    ids = np.array([f"{split}-{k:03d}" for k in range(size)])
    return CellResult(variant, f"fold{split}", seed, truth, prediction, ids, ids, 1, 1.0, 1)


def differences(num_designs: int, num_replicates: int, seed: int = 0) -> Iterator[Interval]:
    """Differences of R2, whose population value is 1 - Var error / Var label."""
    rng = np.random.default_rng(seed)
    specs = get_specs(["bulk_modulus"])
    expected = SCALES["a"] ** 2 - SCALES["b"] ** 2
    for _ in range(num_designs):
        cells = []
        for split in range(2):
            truth = rng.normal(0, 1, 60)
            for variant, scale in SCALES.items():
                own = rng.normal(0, scale * 0.9**0.5, 60)  # the same with every seed
                for training in range(3):
                    guess = truth + own + rng.normal(0, scale * 0.1**0.5, 60)
                    labels, guesses = {"bulk_modulus": truth}, {"bulk_modulus": guess}
                    cells.append(_cell(variant, split, training, labels, guesses))
        result = compare(cells, specs, "a", replicates=num_replicates)
        yield expected, result.contrast("b").rows[0]


def averages(num_designs: int, num_replicates: int, seed: int = 3) -> Iterator[Interval]:
    """Average R2 of splits drawn from the dataset, whose own average R2 is the truth."""
    with tarfile.open(ARCHIVE) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.extractfile("labels.csv"))))
    labels = np.array([[float(row[name] or "nan") for name in TARGETS] for row in rows])
    labels = labels[np.isfinite(labels).all(1)]  # [n, targets]
    rng = np.random.default_rng(seed)
    errors = 0.3 * labels.std(0) * rng.standard_t(4, labels.shape)  # [n, targets]
    expected = float(np.mean(1 - np.mean(errors**2, 0) / labels.var(0)))
    for _ in range(num_designs):
        cells = []
        for split in range(5):
            drawn = rng.integers(0, len(labels), 165)
            truth = dict(zip(TARGETS, labels[drawn].T, strict=True))
            guess = dict(zip(TARGETS, (labels + errors)[drawn].T, strict=True))
            cells.append(_cell("a", split, 0, truth, guess))
        result = compare(cells, get_specs(TARGETS), "a", replicates=num_replicates)
        yield expected, result.score("a", AVERAGE)


def coverage(intervals: Iterator[Interval]) -> dict[str, float]:
    """Share of the intervals that hold the truth, with its standard error and their mean width.

    Returns:
        'basic', of the tables' intervals, and 'percentile', of the percentiles themselves: the
        basic interval is their reflection at the estimate.
    """
    basic, percentile, widths = [], [], []
    for truth, row in intervals:
        basic.append(row.low <= truth <= row.high)
        percentile.append(2 * row.value - row.high <= truth <= 2 * row.value - row.low)
        widths.append(row.high - row.low)
    share = np.mean(basic)
    return {
        "designs": len(basic),
        "basic": round(float(share), 4),
        "standard_error": round(float((share * (1 - share) / len(basic)) ** 0.5), 4),
        "percentile": round(float(np.mean(percentile)), 4),
        "mean_width": round(float(np.mean(widths)), 4),
    }


def main() -> None:
    """Prints the coverage of both studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=1000, help="of each study")
    parser.add_argument("--replicates", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    started = time.perf_counter()
    result = {"cpus": os.cpu_count(), "replicates": arguments.replicates}
    for name, study in (("difference", differences), ("average", averages)):
        result[name] = coverage(study(arguments.designs, arguments.replicates))
    result["seconds"] = round(time.perf_counter() - started, 1)
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
