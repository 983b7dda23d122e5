"""Densities that a prediction is compared with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.features.average_atoms import AverageAtoms

REFERENCES = ("uniform", "atoms")
WORDS = {
    "uniform": "the same electrons spread evenly over the cell",
    "atoms": "a superposition of the average atoms of the training densities, with the same "
    "electrons",
}


def reference_density(record: Mapping[str, Any], atoms: AverageAtoms | None) -> np.ndarray:
    """The reference on the grid of a record, with the electrons of the record.

    A magnetisation is taken to zero.

    Args:
        record: see `density.record.make_record`.
        atoms: for the superposition; None for the uniform density.

    Returns:
        [G, G, G, C] float32 e/Å^3 (and μB/Å^3).

    Raises:
        UserError: see `AverageAtoms.superposition`.
    """
    density = record["density"]  # [G, G, G, C]
    charge = density[..., 0].astype(np.float64)
    if atoms is None:
        values = np.ones_like(charge)
    else:
        values = atoms.superposition(
            record["lattice"], record["species"], record["positions"], len(charge)
        )
    found = np.zeros_like(density)
    found[..., 0] = with_electrons(values, charge.mean())
    return found


def with_electrons(values: np.ndarray, mean: float) -> np.ndarray:
    """A density [G, G, G] scaled to a mean density, e/Å^3."""
    return values * (mean / values.mean())
