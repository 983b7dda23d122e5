"""Whether lengths can be those of matter: distances between atoms, and the room that they have."""

import numpy as np
from ase.data import covalent_radii
from pymatgen.optimization.neighbors import find_points_in_spheres

# Of 1,149 relaxed crystals (tfds_builders/elastic_densities) the nearest atoms are 0.77 to 1.28
# sums of their covalent radii apart (every third was looked at); N2 has 0.77, H2 1.19.
NEAR = 0.65
FAR = 1.6  # further apart are only noble gases and single atoms in a box
BOX = 2.5  # still further are atoms in a box: crystals with lengths in Bohr taken as Å end here
ROOM = 9.0  # volume over the atoms' covalent spheres; 99 % of those crystals have 0.9 to 5.7
VOLUME_PER_ATOM = (2.0, 1e4)  # Å^3: hydrogen at 1 Mbar has 2, an atom in a box of 20 Å 8,000
_NOBLE = (2, 10, 18, 36, 54, 86)
_MOST_CENTRES = 2_000  # atoms whose neighbours are looked at
_MOST_POINTS = 200_000  # images of atoms that are looked at; more are of strange cells


def nearest_ratio(
    lattice: np.ndarray, species: np.ndarray, positions: np.ndarray, limit: float
) -> float | None:
    """Shortest distance between atoms, as a fraction of the sum of their covalent radii.

    Of large cells some atoms are looked at.

    Args:
        lattice: [3, 3] Å.
        species: int [N]; unknown atoms are left out.
        positions: [N, 3] fractional.
        limit: distances above this fraction are not looked for.

    Returns:
        The fraction, `inf` above the limit, None if the cell is too strange to look.
    """
    known = species > 0
    if not known.any():
        return None
    numbers = species[known]
    radii = covalent_radii[np.minimum(numbers, len(covalent_radii) - 1)]  # [N] Å
    reach = limit * 2 * float(radii.max())  # Å
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # [3] Å, between faces
    images = np.prod(2 * reach / heights + 1) * len(numbers)
    if not images <= _MOST_POINTS:
        return None
    # Of thousands of atoms some tell the unit of length as well as all do.
    centres = np.arange(0, len(numbers), -(-len(numbers) // _MOST_CENTRES))  # [M]
    places = np.ascontiguousarray((positions[known] % 1.0) @ lattice)  # [N, 3] Å
    first, second, _, distances = find_points_in_spheres(
        places, np.ascontiguousarray(places[centres]), reach, np.ones(3, np.int64),
        np.ascontiguousarray(lattice, np.float64), 1e-8,
    )
    first = centres[first]
    others = (first != second) | (distances > 1e-6)  # an atom is near itself
    ratios = distances[others] / (radii[first[others]] + radii[second[others]])
    shortest = float(ratios.min(initial=np.inf))
    return shortest if shortest <= limit else np.inf


def volume_per_atom(lattice: np.ndarray, species: np.ndarray) -> float:
    """Å^3; infinite without atoms."""
    return abs(float(np.linalg.det(lattice))) / len(species) if len(species) else np.inf


def faults(lattice: np.ndarray, species: np.ndarray, positions: np.ndarray) -> tuple[str, ...]:
    """What cannot be, in words, of a cell [3, 3] Å with atoms [N] at fractional [N, 3]."""
    volume = volume_per_atom(lattice, species)
    low, high = VOLUME_PER_ATOM
    if len(species) and not low <= volume <= high:
        return (f"{volume:.4g} Å^3 for each atom, where solids have about 5 to 70: lengths in "
                "another unit, or the vectors of a voxel and of the cell mixed up",)
    ratio = nearest_ratio(lattice, species, positions, FAR)
    if ratio == np.inf and _room(volume, species) > ROOM:
        ratio = nearest_ratio(lattice, species, positions, BOX)
        if ratio is not None and ratio < BOX:
            return (f"no atoms are nearer than {ratio:.2f} times the sum of their covalent radii, "
                    "where about 1.3 is the most: lengths in another unit",)
    if ratio is None or ratio > NEAR:
        return ()
    return (f"atoms {ratio:.2f} times the sum of their covalent radii apart, where about 0.8 is "
            "the least: lengths in another unit, or atoms at the same place",)


def _room(volume: float, species: np.ndarray) -> float:
    """Volume of an atom over the mean covalent sphere; 0 for noble gases and unknown atoms."""
    if (species == 0).any() or np.isin(species, _NOBLE).all():
        return 0.0
    radii = covalent_radii[np.minimum(species, len(covalent_radii) - 1)]  # [N] Å
    return volume / float((4 / 3 * np.pi * radii**3).mean())


def strangeness(lattice: np.ndarray, species: np.ndarray, positions: np.ndarray) -> float:
    """How far atoms are from being as near to each other as bonded ones are, 0 for that.

    Infinite where they are nearer than in any matter, or so far that they are not bonded.
    """
    low, high = VOLUME_PER_ATOM
    if not low <= volume_per_atom(lattice, species) <= high:
        return np.inf
    ratio = nearest_ratio(lattice, species, positions, FAR)
    if ratio == np.inf and np.isin(species, _NOBLE).all():
        return float(np.log(FAR))
    return abs(float(np.log(ratio))) if ratio is not None and ratio > NEAR else np.inf
