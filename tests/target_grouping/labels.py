"""Real labels for tests of similarities, without densities."""

import csv
import tarfile
from pathlib import Path

import numpy as np

from densityjax.target_grouping.columns import Column
from densityjax.target_grouping.label_similarity import compare_labels
from densityjax.targets import CRYSTAL_SYSTEMS, get_specs

SHIPPED = (
    Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
)
BULK, SHEAR, METAL, SYSTEM = get_specs(
    ["bulk_modulus", "shear_modulus", "is_metal", "crystal_system"]
)


def shipped_columns(names, folds=(2, 3, 4)) -> tuple[list[Column], np.ndarray]:
    """(labels of these targets as shipped, chemical systems) of the materials of some folds."""
    with tarfile.open(SHIPPED) as archive:
        rows = csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines())
        rows = [row for row in rows if int(row["fold"]) in folds]
    columns = []
    for spec in get_specs(names):
        if spec.name == "crystal_system":
            values = np.array([CRYSTAL_SYSTEMS.index(row[spec.name]) for row in rows])
        elif spec.kind == "classification":
            values = np.array([int(row[spec.name] or -1) for row in rows])
        else:
            values = np.array([float(row[spec.name] or "nan") for row in rows])
        columns.append(Column(spec, values))
    return columns, np.array([row["chemical_system"] for row in rows])


def real_columns() -> list[Column]:
    """Values with ties and gaps (Debye temperature), two and seven classes; 491 materials."""
    names = ["bulk_modulus", "band_gap", "debye_temperature", "is_metal", "crystal_system"]
    return shipped_columns(names)[0]


def value(a: Column, b: Column, measure: str, seed: int = 0, **options) -> float:
    return compare_labels([a, b], measure, permutations=0, seed=seed, **options).values[0, 1]
