"""What the neighbours of each atom are: elemental properties over the bonds of a structure.

Atoms i and j at a distance d, with the covalent radii R, have the bond weight

    w = exp(-(x / 1.2)^4),  x = d / (R_i + R_j),

which falls smoothly from near 1 for a bond to 1e-3 at x = 1.95. For each elemental property f and
each atom: the weighted means over its neighbours of |f_i - f_j|, of f_j - f_i and of f_j (local
property differences, Ward et al., PRB 96, 024104, 2017, with smooth weights in the place of
Voronoi faces). They are pooled over the atoms by mean, minimum, maximum, spread, and by means
weighted towards the least and the most electronegative atoms. Nothing depends on origin,
orientation or choice of cell.
"""

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from densityjax.features.composition import PROPERTIES, element_table, filled_table
from densityjax.features.histogram import sums_ascending

_BOND, _REACH = 1.2, 1.95  # in sums of covalent radii
_ANGSTROM = 100.0  # pm
_SHARPNESS = 3.0  # per unit of electronegativity
_NONE = 1e-6  # bond weight of an atom without neighbours
_MOST_POINTS = 1_000_000  # images of atoms
BOND_PROPERTIES = (
    "Electronegativity", "CovalentRadius", "Column", "Row", "MendeleevNumber", "NValence",
    "NdValence", "NpValence", "NsValence", "NUnfilled", "NdUnfilled", "NpUnfilled", "GSvolume_pa",
    "MeltingT",
)
_BOND_COLUMNS = [PROPERTIES.index(name) for name in BOND_PROPERTIES]
_ATOM = (
    "ln(sum of bond weights)", "mean bond length [radii]", "mean bond length [Å]",
    "shortest bond [radii]", "shortest bond [Å]", "share of bonds to the same element",
    *(f"{kind} {name}" for name in BOND_PROPERTIES for kind in ("mean |difference| of",
      "mean difference of", "mean of the neighbours'")),
)
POOLS = ("mean", "minimum", "maximum", "spread", "electropositive", "electronegative")
_IONICITY = "mean squared electronegativity difference of a bond"
NAMES = (*(f"{pool} over atoms: {name}" for pool in POOLS for name in _ATOM), _IONICITY)


def bond_features(
    species: np.ndarray, lattice: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """The features of a structure.

    Args:
        species: int [N] atomic numbers.
        lattice: [3, 3] Å, rows are the cell vectors.
        positions: [N, 3] fractional.

    Returns:
        float32 [NAMES]; NaN without atoms, with one of an element that is not tabulated, or in a
        cell so thin that an atom has too many images to look at.
    """
    table, species = element_table(), np.asarray(species)
    if not species.size or species.min() < 1 or species.max() >= len(table):
        return np.full(len(NAMES), np.nan, np.float32)
    own = filled_table()[species]  # [N, 22]
    radius = own[:, PROPERTIES.index("CovalentRadius")] / _ANGSTROM  # [N] Å
    reach = 2 * _REACH * radius.max()  # Å
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # [3] Å, between faces
    if not np.prod(2 * reach / heights + 1) * species.size <= _MOST_POINTS:
        return np.full(len(NAMES), np.nan, np.float32)
    first, second, distance = _pairs(lattice, positions, reach)
    ratio = distance / (radius[first] + radius[second])  # [pairs]
    bonded = ratio < _REACH
    first, second, distance, ratio = (x[bonded] for x in (first, second, distance, ratio))
    weight = np.exp(-((ratio / _BOND) ** 4))

    size = len(species)
    total = np.bincount(first, weight, size) + _NONE  # [N]
    shortest, shortest_ratio = np.full(size, 2 * _REACH * radius.max()), np.full(size, _REACH)
    np.minimum.at(shortest, first, distance)
    np.minimum.at(shortest_ratio, first, ratio)
    neighbours = own[:, _BOND_COLUMNS][second]  # [pairs, P]
    change = neighbours - own[:, _BOND_COLUMNS][first]
    of_properties = np.stack([np.abs(change), change, neighbours], axis=2)  # [pairs, P, 3]
    values = np.concatenate([
        np.stack([ratio, distance, species[first] == species[second]], axis=1),
        of_properties.reshape(len(first), 3 * len(_BOND_COLUMNS)),
    ], axis=1)
    means = _sums(first, weight[:, None] * values, size) / total[:, None]  # [N, 3 + 3 P]
    columns = np.concatenate([
        np.log(total)[:, None], means[:, :2], shortest_ratio[:, None], shortest[:, None],
        means[:, 2:],
    ], axis=1)
    negativity = own[:, PROPERTIES.index("Electronegativity")]
    squares = np.square(negativity[second] - negativity[first])
    ionicity = weight @ squares / total.sum()
    pooled = _pooled(columns, negativity)
    return np.append(pooled, ionicity).astype(np.float32)


def _sums(rows: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """[size, F] sums of values [n, F] over those of each row."""
    order = np.argsort(rows, kind="stable")
    return sums_ascending(rows[order], values[order], size)


def _pairs(
    lattice: np.ndarray, positions: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of atoms nearer than `reach` Å: the first, the second [pairs], distance [pairs] Å."""
    cell = np.ascontiguousarray(lattice, np.float64)
    cartesian = np.ascontiguousarray(np.asarray(positions, np.float64) @ cell)
    first, second, _, distance = find_points_in_spheres(
        cartesian, cartesian, r=float(reach), pbc=np.ones(3, np.int64), lattice=cell, tol=1e-8
    )
    other = distance > 1e-8  # not the atom itself
    return first[other], second[other], distance[other]


def _pooled(values: np.ndarray, negativity: np.ndarray) -> np.ndarray:
    """[POOLS * _ATOM] of atoms [N, _ATOM]."""
    tilt = np.exp(_SHARPNESS * (negativity - negativity.mean()))  # [N]
    parts = (
        values.mean(axis=0), values.min(axis=0), values.max(axis=0), values.std(axis=0),
        (1 / tilt) @ values / (1 / tilt).sum(), tilt @ values / tilt.sum(),
    )
    return np.concatenate(parts)
