"""A small real dataset, loaded as these tests need it."""

import shutil
from pathlib import Path
from typing import Any

from densityjax.data.dataset import open_dataset
from densityjax.data.records import load_records
from densityjax.targets import get_specs

NAME = "elastic_densities/grid24"
SPECS = get_specs(["volume", "debye_temperature", "is_metal"])
BESIDE = ("index", "features")  # files of splits
FOLDS = ("fold2", "fold3", "fold4")


def load(builder, folds=FOLDS, specs=SPECS, **changes):
    options = dict(channels=2, spin_polarized_only=False, cache_in_memory=True)
    return load_records(builder, folds, specs, **options | changes)


def open_copy(dataset: Path, folder: Path) -> Any:
    """A copy of the dataset in another folder, without what is kept beside it; its builder."""
    ignore = shutil.ignore_patterns(*(f"{dot}{name}-*" for dot in ("", ".") for name in BESIDE))
    shutil.copytree(dataset / "elastic_densities", folder / "elastic_densities", ignore=ignore)
    return open_dataset(NAME, str(folder), build=False)
