"""Accuracy on every fold of elastic_densities: models beside yardsticks, and a learning curve.

    python -m benchmarks.accuracy --workdir=runs/accuracy          # again, it goes on
    python -m benchmarks.accuracy --workdir=runs/accuracy --out=docs/results/accuracy   # tables

Each fold is the test fold once. Models, see `VARIANTS`, are rotated ensembles of the four other
folds, with the small trunk of configs/elastic_ensemble.py; yardsticks are fitted to all four. The
learning curve trains single runs on a share of the chemical systems, of two test folds. On 2 busy
cores it took an hour and three quarters.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax  # noqa: F401  before NumPy's threads

from benchmarks.accuracy_tables import write_tables
from benchmarks.accuracy_yardsticks import save_yardsticks
from densityjax.training.facts import read_facts

FOLDS = (0, 1, 2, 3, 4)
TARGETS = (
    "bulk_modulus", "shear_modulus", "total_energy", "formation_energy_per_atom", "fermi_energy",
    "band_gap", "bandwidth", "volume", "density",
)
_SMALL = {
    "view.size": 12, "view.spacing": 0.6, "model.widths": (16, 32), "model.blocks": (1, 1),
    "train.epochs": 30,
}
# Name -> (config, changes).
VARIANTS = {
    "best": ("elastic_best", {"yardsticks": ()}),
    "paper": ("elastic_paper", {"yardsticks": (), "ensemble.rotate": True, **_SMALL}),
}
CURVE_FOLDS = (0, 1)
SHARES = (0.125, 0.25, 0.5, 1.0)
CURVES = {
    "paper": ("elastic_paper", {"yardsticks": ("invariants",), **_SMALL}),
    "best": ("elastic_best", {"yardsticks": (), "ensemble.rotate": False}),
}


def folds_of(test: int) -> dict[str, object]:
    """Settings of a run whose test fold is `test`: the next one validates, the others train."""
    validation = (test + 1) % len(FOLDS)
    train = tuple(fold for fold in FOLDS if fold not in (test, validation))
    return {
        "data.test_fold": test, "data.validation_fold": validation, "data.train_folds": train,
    }


def jobs(workdir: Path) -> Iterator[tuple[Path, str, dict[str, object]]]:
    """(directory, config, changes) of every run, in the order in which they are of use."""
    common = {"targets": TARGETS, "intervals.calibrate": False}
    for name, (config, changes) in VARIANTS.items():
        for test in FOLDS:
            yield workdir / f"{name}_fold{test}", config, common | folds_of(test) | changes
    for test in CURVE_FOLDS:
        for name, (config, changes) in CURVES.items():
            for share in SHARES:
                own = common | folds_of(test) | changes | {"data.train_fraction": share}
                yield workdir / f"curve_{name}_{share:g}_fold{test}", config, own


def train(folder: Path, config: str, changes: dict[str, object], data_dir: str) -> None:
    """Trains a run in a process of its own, unless it has finished."""
    if "finished" in read_facts(folder):
        return
    command = [
        sys.executable, "-m", "densityjax.main", f"--config={config}", f"--workdir={folder}",
        f"--config.data.data_dir={data_dir}",
        *(f"--config.{key}={value}" for key, value in changes.items()),
    ]
    print(folder.name, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, or writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, help="folder of the tables; no training then")
    options = parser.parse_args(arguments)
    if options.out:
        write_tables(options.workdir, options.out, options.data_dir)
        return
    for folder, config, changes in jobs(options.workdir):
        train(folder, config, changes, options.data_dir)
    for test in FOLDS:
        save_yardsticks(options.workdir, test, TARGETS, options.data_dir)


if __name__ == "__main__":
    main()
