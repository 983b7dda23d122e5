"""What a density file itself gives: volume, mass density and magnetic moment of the cell."""

from collections.abc import Sequence

import numpy as np

from densityjax.data.records import Records
from densityjax.features.composition import GRAMS_PER_CM3, PROPERTIES, element_table
from densityjax.targets import TargetSpec


def identities(records: Records, specs: Sequence[TargetSpec]) -> dict[str, np.ndarray]:
    """Exact values of the targets that the input gives away.

    The volume is det(lattice), the mass density the atoms' masses over it, the magnetic moment
    |integral of m dV|.

    Returns:
        {target: [n] in its unit}; NaN where a file does not name its elements.
    """
    found = {
        "volume": lambda: records.volume,
        "mass_density": lambda: mass_density(records.species, records.volume),
        "moment": lambda: records.moment,
    }
    return {spec.name: found[spec.identity]() for spec in specs if spec.identity is not None}


def mass_density(species: Sequence[np.ndarray], volume: np.ndarray) -> np.ndarray:
    """g/cm^3 of cells, [n].

    Args:
        species: n arrays of atomic numbers.
        volume: [n] Å^3.
    """
    weights = element_table()[:, PROPERTIES.index("AtomicWeight")]  # [Z] u
    known = np.append(weights, np.full(256 - len(weights), np.nan))
    mass = np.array([known[np.asarray(numbers, int)].sum() for numbers in species])  # [n] u
    return GRAMS_PER_CM3 * mass / volume
