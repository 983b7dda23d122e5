"""Cells with made-up labels and predictions for the tests of comparisons."""

import dataclasses

import numpy as np

from densityjax.ablation.results import CellResult
from densityjax.targets import get_specs

SPECS = get_specs(["bulk_modulus", "density", "crystal_system"])
VARIANTS = ("single", "all", "random 0", "random 1", "random 2")
POOLS = {"random (mean)": VARIANTS[2:]}


def design(variants=VARIANTS, splits=("fold0", "fold1"), seeds=(0, 1, 2), size=40, systems=12):
    """Cells with made-up labels, some missing, and predictions with noise."""
    cells = []
    for place, split in enumerate(splits):
        rng = np.random.default_rng(place)
        names = np.array([f"S{place}-{k}" for k in rng.integers(0, systems, size)])
        truth = {
            "bulk_modulus": rng.normal(100, 30, size),
            "density": rng.normal(5, 2, size),
            "crystal_system": rng.integers(-1, 3, size),
        }
        truth["bulk_modulus"][::7] = np.nan
        for number, variant in enumerate(variants):
            for seed in seeds:
                noise = np.random.default_rng([place, number, seed])
                scale = 0.3 + 0.1 * number
                scores = noise.normal(0, 1, (size, 7))
                scores[np.arange(size), truth["crystal_system"]] += 1.5
                prediction = {
                    "bulk_modulus": truth["bulk_modulus"] + noise.normal(0, 30 * scale, size),
                    "density": truth["density"] + noise.normal(0, 2 * scale, size),
                    "crystal_system": np.exp(scores) / np.exp(scores).sum(1, keepdims=True),
                }
                ids = np.array([f"mp-{place}-{k}" for k in range(size)])
                facts = dict(parameters=1000 + number, device_seconds=2.0, updates=300)
                cells.append(
                    CellResult(variant, split, seed, truth, prediction, names, ids, **facts)
                )
    return cells


def change(cell: CellResult, **predictions) -> CellResult:
    return dataclasses.replace(cell, prediction=cell.prediction | predictions)


def change_targets(cell: CellResult, names=("bulk_modulus", "density")) -> CellResult:
    return dataclasses.replace(cell, prediction={name: cell.prediction[name] for name in names})


def made(variant: str, seed: int, truth: np.ndarray, error: np.ndarray, split="fold0"):
    """A cell of one target, every material a system of its own."""
    ids = np.array([f"{split}-{k:03d}" for k in range(truth.size)])
    labels, values = {"bulk_modulus": truth}, {"bulk_modulus": truth + error}
    return CellResult(variant, split, seed, labels, values, ids, ids, 1, 1.0, 1)


def basic(value: float, replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of Davison and Hinkley (1997), equation 5.6."""
    low, high = np.percentile(replicates, [50 * (1 - level), 50 * (1 + level)])
    return 2 * value - high, 2 * value - low
