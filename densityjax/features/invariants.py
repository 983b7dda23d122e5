"""Density invariants: one vector per material that no choice of description changes.

The numbers stay the same when the origin is moved, the crystal is rotated (or mirrored), a
supercell is given, or other vectors span the cell. They are functions of the stored record
alone: density on its grid, lattice and positions; the species are not read. `NAMES` states the
unit of each; formulas and sources stand in the modules of the blocks.

What they depend on is the resolution of the grid: a supercell stored on as many points as its
primitive cell is a blurred one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.features import atoms, energies, local, scattering
from densityjax.features.field import make_field

BLOCKS: dict[str, tuple[str, ...]] = {
    "local": local.NAMES,
    "spin": local.SPIN_NAMES,
    "derivatives": energies.NAMES,
    "scattering": scattering.NAMES,
    "atoms": atoms.NAMES,
}
NAMES: tuple[str, ...] = tuple(name for names in BLOCKS.values() for name in names)


def invariants(density: np.ndarray, lattice: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The vector of a density.

    Args:
        density: [X, Y, Z, C] e/Å^3 and, with C = 2, magnetisation μB/Å^3.
        lattice: [3, 3] Å, rows are the cell vectors.
        positions: [N, 3] fractional.

    Returns:
        float32 [NAMES]; the block of atoms is NaN if there are none.

    Raises:
        ValueError: other shapes.
    """
    if density.ndim != 4:
        raise ValueError(f"density of shape {density.shape}; expected [X, Y, Z, C]")
    field = make_field(density[..., 0], lattice)
    cartesian = np.asarray(positions, np.float64) @ np.asarray(lattice, np.float64)  # [N, 3] Å
    magnetization = density[..., 1] if density.shape[-1] > 1 else None
    found = (
        local.local_invariants(field),
        local.spin_invariants(density[..., 0], magnetization),
        energies.derivative_invariants(field),
        scattering.scattering_invariants(field),
        atoms.atom_invariants(field, cartesian),
    )
    return np.concatenate(found).astype(np.float32)


def record_invariants(record: Mapping[str, Any]) -> np.ndarray:
    """`invariants` of a stored record, float32 [NAMES]."""
    return invariants(record["density"], record["lattice"], record["positions"])
