"""What can be said of every voxel of a stored density without a label, for pretraining."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.features.average_atoms import AverageAtoms
from densityjax.features.composition import PROPERTIES, filled_table
from densityjax.features.nearest_atoms import nearest_atoms

# Numbers per voxel of each objective, in the order in which they are stacked.
VOXEL = {"nearest_element": 3, "deformation": 1}
ELEMENT_PROPERTIES = ("Row", "Column", "Electronegativity")  # of the nearest nucleus
# e/Å^3, where the scale of a deformation turns from linear to logarithmic. Between atoms it is
# some hundredths; within cores, where pseudo-densities differ most, it is several.
_LINEAR = 0.1


def voxel_width(names: Sequence[str]) -> int:
    """Numbers per voxel of these objectives, those of `VOXEL` among them."""
    return sum(VOXEL.get(name, 0) for name in names)


def voxel_targets(
    record: Mapping[str, Any], names: Sequence[str], atoms: AverageAtoms | None
) -> np.ndarray:
    """Numbers of every voxel, in their own units: [G, G, G, K] float32.

    Of 'nearest_element' row, column and Pauling electronegativity of the element of the nearest
    nucleus; the mean of the table where it has none. Of 'deformation' arsinh(d / (0.1 e/Å^3)),
    d being the charge density minus the superposition of average atoms.

    Args:
        record: with density, lattice, species and positions, see `density.record.make_record`.
        names: objectives; others than those of `VOXEL` are passed over.
        atoms: for 'deformation'; has every element of the record.

    Raises:
        UserError: it lacks one.
    """
    charge = record["density"][..., 0]  # [G, G, G] e/Å^3
    grid, species = charge.shape[0], np.asarray(record["species"])
    found = [np.zeros((grid, grid, grid, 0), np.float32)]
    if "nearest_element" in names:
        columns = [PROPERTIES.index(name) for name in ELEMENT_PROPERTIES]
        of_atoms = filled_table()[species][:, columns]  # [N, 3]
        found.append(of_atoms[nearest_atoms(record["lattice"], record["positions"], grid)])
    if "deformation" in names:
        superposed = atoms.superposition(record["lattice"], species, record["positions"], grid)
        found.append(np.arcsinh((charge - superposed) / _LINEAR)[..., None])
    return np.concatenate(found, axis=-1, dtype=np.float32)
