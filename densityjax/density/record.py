"""Density -> record: what a dataset stores of one material, whatever file it came from."""

from typing import Any

import numpy as np

from densityjax.density import grid
from densityjax.density.reader import Density, DensityFormatError

ELECTRON_TOLERANCE = 1e-4  # relative, of a record against its density; float32 rounding


def make_record(density: Density, size: int) -> dict[str, Any]:
    """The fields of a record that a density gives; names and labels are the dataset's to add.

    Args:
        density: on any grid.
        size: voxels along each axis of the stored density, G.

    Returns:
        density [G, G, G, C] float32 e/Å^3 and, with magnetisation, μB/Å^3; lattice [3, 3] float32
        Å; species [N] int32; positions [N, 3] float32 fractional; num_electrons float32 of the
        source; native_grid [3] int32; negative_fraction float32 of the stored charge; formula and
        chemical_system.

    Raises:
        DensityFormatError: the stored density does not hold the electrons of its source.
    """
    fields = [density.values]
    if density.magnetization is not None:
        fields.append(density.magnetization)
    try:
        stored = np.stack([grid.resample(field, size) for field in fields], axis=-1)
        stored = stored.astype(np.float32)  # [G, G, G, C] e/Å^3, μB/Å^3
    except MemoryError as error:
        raise DensityFormatError(
            f"{density.source}: this machine has too little memory to resample it"
        ) from error
    lattice = density.lattice.astype(np.float32)  # [3, 3] Å
    charge = stored[..., 0]  # [G, G, G] e/Å^3
    num_electrons = density.num_electrons  # a sum over the whole grid: once
    integral = charge.mean(dtype=np.float64) * abs(np.linalg.det(lattice.astype(np.float64)))
    check_electrons(density.source, integral, num_electrons, ELECTRON_TOLERANCE)
    return {
        "density": stored,
        "lattice": lattice,
        "species": density.species.astype(np.int32),
        "positions": density.positions.astype(np.float32),
        "num_electrons": np.float32(num_electrons),
        "native_grid": np.array(density.values.shape, np.int32),
        "negative_fraction": np.float32(grid.negative_fraction(charge)),
        "formula": density.formula,
        "chemical_system": density.chemical_system,
    }


def check_electrons(source: str, found: float, expected: float, tolerance: float) -> None:
    """Raises DensityFormatError if electron counts differ by more than `tolerance`, relative."""
    if abs(found / expected - 1) > tolerance:
        raise DensityFormatError(
            f"{source}: holds {found:.6f} electrons; expected {expected:.6f} within {tolerance:g} "
            "relative"
        )
