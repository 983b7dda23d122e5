"""What a density file itself gives: volume, mass density and magnetic moment of the cell."""

from collections.abc import Sequence

import numpy as np

from densityjax.data.records import Records
from densityjax.features.composition import mass_density
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
