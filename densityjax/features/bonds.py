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
from ase.neighborlist import primitive_neighbor_list

from densityjax.features.composition import PROPERTIES, element_table

_BOND, _REACH = 1.2, 1.95  # in sums of covalent radii
_ANGSTROM = 100.0  # pm
_SHARPNESS = 3.0  # per unit of electronegativity
_NONE = 1e-6  # bond weight of an atom without neighbours
BOND_PROPERTIES = (
    "Electronegativity", "CovalentRadius", "Column", "Row", "MendeleevNumber", "NValence",
    "NdValence", "NpValence", "NsValence", "NUnfilled", "NdUnfilled", "NpUnfilled", "GSvolume_pa",
    "MeltingT",
)
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
        float32 [NAMES]; NaN without atoms, or with one of an element that is not tabulated.
    """
    table, species = element_table(), np.asarray(species)
    if not species.size or species.min() < 1 or species.max() >= len(table):
        return np.full(len(NAMES), np.nan, np.float32)
    filled = np.where(np.isnan(table), np.nanmean(table[1:], axis=0), table)
    own = filled[species]  # [N, 22]
    radius = own[:, PROPERTIES.index("CovalentRadius")] / _ANGSTROM  # [N] Å
    first, second, distance = primitive_neighbor_list(
        "ijd", (True,) * 3, np.asarray(lattice, np.float64), np.asarray(positions, np.float64),
        _REACH * radius, use_scaled_positions=True,
    )
    ratio = distance / (radius[first] + radius[second])  # [bonds]
    weight = np.exp(-((ratio / _BOND) ** 4))

    size = len(species)
    total = np.bincount(first, weight, size) + _NONE  # [N]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(first, weight * values, size) / total

    shortest, shortest_ratio = np.full(size, 2 * _REACH * radius.max()), np.full(size, _REACH)
    np.minimum.at(shortest, first, distance)
    np.minimum.at(shortest_ratio, first, ratio)
    columns = [
        np.log(total), mean(ratio), mean(distance), shortest_ratio, shortest,
        mean(species[first] == species[second]),
    ]
    for name in BOND_PROPERTIES:
        values = own[:, PROPERTIES.index(name)]
        change = values[second] - values[first]
        columns += [mean(np.abs(change)), mean(change), mean(values[second])]
    negativity = own[:, PROPERTIES.index("Electronegativity")]
    squares = np.square(negativity[second] - negativity[first])
    ionicity = weight @ squares / total.sum()
    pooled = _pooled(np.stack(columns, axis=1), negativity)
    return np.append(pooled, ionicity).astype(np.float32)


def _pooled(values: np.ndarray, negativity: np.ndarray) -> np.ndarray:
    """[POOLS * _ATOM] of atoms [N, _ATOM]."""
    tilt = np.exp(_SHARPNESS * (negativity - negativity.mean()))  # [N]
    parts = (
        values.mean(axis=0), values.min(axis=0), values.max(axis=0), values.std(axis=0),
        (1 / tilt) @ values / (1 / tilt).sum(), tilt @ values / tilt.sum(),
    )
    return np.concatenate(parts)
