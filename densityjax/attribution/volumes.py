"""A map as a cube and a CHGCAR, which VESTA, pymatgen and ASE open in place.

Both are of the stored grid, the finest that a model sees: on the file's own grid a map would show
detail that nobody computed. Their origin is 0 and they hold the whole cell, since readers ignore
another origin.
"""

import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io.cube import write_cube
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Chgcar, Poscar

from densityjax.density.density import symbol
from densityjax.runtime.files import replaced


def write_map_cube(
    path: Path, values: np.ndarray, lattice: np.ndarray, species: np.ndarray,
    positions: np.ndarray, comment: str,
) -> None:
    """Gaussian cube: a voxel holds its own part, so that the sum is that of the map.

    Args:
        values: [G, G, G] in the target's unit per voxel.
        lattice: [3, 3] Å.
        species: [N] atomic numbers.
        positions: [N, 3] fractional.
        comment: the first line.
    """
    atoms = Atoms(numbers=species, cell=lattice, scaled_positions=positions, pbc=True)
    with replaced(path) as partial, partial.open("w", encoding="utf-8") as file:
        write_cube(file, atoms, values, comment=" ".join(comment.split()))


def write_map_chgcar(
    path: Path, values: np.ndarray, lattice: np.ndarray, species: np.ndarray,
    positions: np.ndarray, comment: str,
) -> None:
    """CHGCAR, in which a number is a density times the volume of the cell.

    So the mean of the numbers is the sum of the map, and VESTA shows the target's unit per Å^3. The
    arguments are those of `write_map_cube`; atoms of an element that stand apart are put together.
    """
    order = np.argsort(species, kind="stable")
    structure = Structure(
        Lattice(np.asarray(lattice, np.float64)), [symbol(int(z)) for z in species[order]],
        np.asarray(positions, np.float64)[order],
    )
    poscar = Poscar(structure, comment=" ".join(comment.split()))
    with replaced(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not made by VASP
        Chgcar(poscar, {"total": values * values.size}).write_file(partial)
