"""All features of a stored record: what is computed once per dataset, and of a predicted file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.features import atoms, bonds, composition, invariants

# Of the numbers below; a dataset's features are computed anew when it differs.
VERSION = 3
WIDTHS: dict[str, int] = {
    "invariants": len(invariants.NAMES),
    "composition": len(composition.NAMES),
    "structure": len(composition.NAMES) + len(bonds.NAMES),
    "surroundings": len(atoms.SURROUNDINGS),
    "positions": 3,
}
PER_ATOM = ("surroundings", "positions")  # the others are of a material


def structure_features(
    species: np.ndarray, lattice: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """Composition and bonds of a structure, float32 [WIDTHS["structure"]]."""
    found = (
        composition.composition_features(species, lattice),
        bonds.bond_features(species, lattice, positions),
    )
    return np.concatenate(found)


def record_features(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Blocks of features.

    Args:
        record: with density, lattice, positions and species, see `density.record.make_record`.

    Returns:
        float32: invariants, composition, structure (composition and bonds), [WIDTHS] each; of each
        atom, surroundings and positions (fractional), [N, WIDTHS].
    """
    vector, surroundings = invariants.describe(
        record["density"], record["lattice"], record["positions"]
    )
    species, lattice, positions = (record[k] for k in ("species", "lattice", "positions"))
    structure = structure_features(species, lattice, positions)
    return {
        "invariants": vector,
        "composition": structure[: WIDTHS["composition"]],
        "structure": structure,
        "surroundings": surroundings,
        "positions": np.asarray(positions, np.float32),
    }
