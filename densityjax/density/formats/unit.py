"""The unit of a density whose file does not state it, by counting electrons."""

import numpy as np
from ase.units import Bohr

BOHR = float(Bohr)  # Å


def choose_unit(
    values: np.ndarray, volume: float, species: np.ndarray
) -> tuple[float, tuple[str, ...]]:
    """Factor from a file's unit to e/Å^3, and a note unless the unit is e/Bohr^3.

    Cube and XSF files mostly hold e/Bohr^3, but some writers leave e/Å^3 or rho * V_cell in them,
    in which the same numbers are a seventh or a thousandth of the electrons. So where e/Bohr^3
    gives more electrons than the neutral atoms have (by more than 1 % and one electron), another
    unit is taken if it gives a whole number of electrons that they can have.

    Args:
        values: [X, Y, Z] in the file's unit.
        volume: Å^3.
        species: [N] atomic numbers; with unknown ones nothing is concluded.
    """
    default = BOHR**-3
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.mean() * volume
        too_many = total * default > (most := 1.01 * species.sum() + 1)
    if not len(species) or not species.all() or not too_many or not np.isfinite(total):
        return default, ()
    for factor, unit in ((1.0, "e/Å^3"), (1 / volume, "rho * V_cell")):
        electrons = total * factor
        if 0.5 < electrons <= most and abs(electrons - round(electrons)) < 0.01 + 1e-4 * electrons:
            return factor, (
                f"taken as {unit}: {electrons:.6g} electrons, where e/Bohr^3 gives more than the "
                "atoms have",
            )
    return default, (
        f"the density, taken as e/Bohr^3, holds more electrons than the atoms have "
        f"({species.sum()}), and no other unit gives a whole number of them",
    )
