"""All features of a stored record: what is computed once per dataset, and of a predicted file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.features import atoms, composition, invariants

# Of the numbers below; a dataset's features are computed anew when it differs.
VERSION = 1
WIDTHS: dict[str, int] = {
    "invariants": len(invariants.NAMES),
    "composition": len(composition.NAMES),
    "surroundings": len(atoms.SURROUNDINGS),
}


def record_features(record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Blocks of features.

    Args:
        record: with density, lattice, positions and species, see `density.record.make_record`.

    Returns:
        float32: invariants [WIDTHS], composition [WIDTHS] and, of each atom, surroundings
        [N, WIDTHS].
    """
    vector, surroundings = invariants.describe(
        record["density"], record["lattice"], record["positions"]
    )
    return {
        "invariants": vector,
        "composition": composition.composition_features(record["species"], record["lattice"]),
        "surroundings": surroundings,
    }
