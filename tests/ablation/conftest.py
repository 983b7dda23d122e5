"""Cells and comparisons that several files of tests share."""

from collections.abc import Iterator

import pytest

from densityjax.ablation.compare import compare
from densityjax.ablation.frame import long_frame
from densityjax.ablation.results import CellResult
from tests.ablation.designs import POOLS, SPECS, change, change_targets, design


@pytest.fixture(scope="session")
def cells():
    return design()


def _special_cells() -> Iterator[CellResult]:
    """'all' shares a model with 'single'; 'few_2 & more' has one target."""
    cells = design((*POOLS["random (mean)"], "single", "all", "few_2 & more"))
    single = {(c.split, c.seed): c for c in cells if c.variant == "single"}
    for cell in cells:
        if cell.variant == "all":
            own = single[cell.split, cell.seed].prediction
            yield change(cell, density=own["density"])
        else:
            yield change_targets(cell, ["bulk_modulus"]) if "few" in cell.variant else cell


@pytest.fixture(scope="session")
def comparison():
    extra = [("all", "random (mean)")]
    return compare(list(_special_cells()), SPECS, "single", POOLS, extra, replicates=200)


@pytest.fixture(scope="session")
def frame(comparison):
    return long_frame(comparison)
