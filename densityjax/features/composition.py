"""What the elements of a cell tell: the Magpie features, the volume per atom and the mass density.

The 132 Magpie features (Ward et al., npj Comput. Mater. 2, 16028, 2016) are six statistics of each
of 22 elemental properties, with x_i the atomic fraction and f_i the property of element i:

- minimum, maximum and range over the elements,
- mean: sum_i x_i f_i,
- avg_dev, the mean absolute deviation: sum_i x_i |f_i - mean|,
- mode: f of the most abundant element, the smallest of them where several are equally abundant.

Names, order and the rule of the mode are those of matminer's `ElementProperty("magpie")`. A
property that the table lacks for an element has the mean of the table (matminer: `impute_nan`).
"""

import csv
import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np

STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
PROPERTIES = (
    "Number", "MendeleevNumber", "AtomicWeight", "MeltingT", "Column", "Row", "CovalentRadius",
    "Electronegativity", "NsValence", "NpValence", "NdValence", "NfValence", "NValence",
    "NsUnfilled", "NpUnfilled", "NdUnfilled", "NfUnfilled", "NUnfilled", "GSvolume_pa",
    "GSbandgap", "GSmagmom", "SpaceGroupNumber",
)
MAGPIE_NAMES = tuple(f"MagpieData {s} {p}" for p in PROPERTIES for s in STATISTICS)
NAMES = (*MAGPIE_NAMES, "volume per atom [Å^3]", "ln(volume per atom / Å^3)", "density [g/cm^3]")
GRAMS_PER_CM3 = 1.66053906660  # of one u/Å^3, CODATA 2018


@functools.cache
def element_table() -> np.ndarray:
    """Elemental properties [Z, 22], row = atomic number; NaN for 0 and what is not tabulated.

    The units are those of README.md beside the table.
    """
    path = resources.files("densityjax.features") / "element_properties.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = np.full((1 + len(rows), len(PROPERTIES)), np.nan)  # [Z, 22]
    for row in rows:
        number = int(float(row["Number"]))
        table[number] = [float(row[name] or "nan") for name in PROPERTIES]
    table.flags.writeable = False
    return table


@functools.cache
def filled_table() -> np.ndarray:
    """`element_table` with the mean of the column where an element lacks a property."""
    table = element_table().copy()
    missing = np.isnan(table[1:])
    table[1:] = np.where(missing, np.nanmean(table[1:], axis=0), table[1:])
    return table


def magpie(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The Magpie features of a composition.

    Args:
        numbers: [E] atomic numbers, each once.
        counts: [E] atoms of each, in any positive multiple.

    Returns:
        float32 [132], in the order of `MAGPIE_NAMES`; NaN if there are no atoms, or one of an
        element that the file does not name (0) or that lies beyond the table (Lr).
    """
    numbers, counts = np.asarray(numbers), np.asarray(counts, np.float64)
    table = filled_table()
    if not numbers.size or numbers.min() < 1 or numbers.max() >= len(table):
        return np.full(len(MAGPIE_NAMES), np.nan, np.float32)
    values = table[numbers]  # [E, 22]
    shares = counts / counts.sum()  # [E]
    low, high, mean = values.min(axis=0), values.max(axis=0), shares @ values  # [22]
    deviation = shares @ np.abs(values - mean)
    mode = values[shares > shares.max() * (1 - 1e-5)].min(axis=0)
    return np.stack([low, high, high - low, mean, deviation, mode], axis=1).ravel().astype(
        np.float32
    )


def composition_features(species: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Magpie features, volume per atom and mass density of a cell.

    Args:
        species: int [N] atomic numbers, as in a record.
        lattice: [3, 3] Å, rows are the cell vectors.

    Returns:
        float32 [135], in the order of `NAMES`; NaN as `magpie`.
    """
    species = np.asarray(species)
    numbers, counts = np.unique(species, return_counts=True)
    features = magpie(numbers, counts)
    if np.isnan(features[0]):
        return np.full(len(NAMES), np.nan, np.float32)
    volume = abs(np.linalg.det(np.asarray(lattice, np.float64)))  # Å^3
    per_atom = volume / species.size
    rest = [per_atom, np.log(per_atom), mass_density([species], volume)[0]]
    return np.concatenate([features, np.asarray(rest, np.float32)])


def compositions(species: Sequence[np.ndarray], lattice: np.ndarray) -> np.ndarray:
    """`composition_features` of n cells, float32 [n, 135].

    Args:
        species: n arrays of atomic numbers.
        lattice: [n, 3, 3] Å.
    """
    cells = zip(species, lattice, strict=True)
    return np.stack([composition_features(*cell) for cell in cells])


@functools.cache
def _weights() -> np.ndarray:
    """Atomic weights [256] u, NaN where there is none."""
    weights = element_table()[:, PROPERTIES.index("AtomicWeight")]
    return np.append(weights, np.full(256 - len(weights), np.nan))


def mass_density(species: Sequence[np.ndarray], volume: np.ndarray) -> np.ndarray:
    """g/cm^3 of n cells, [n]; NaN for one with an atom of no known element.

    Args:
        species: n arrays of atomic numbers.
        volume: [n] Å^3.
    """
    known = _weights()
    mass = np.array([known[np.asarray(numbers, int)].sum() for numbers in species])  # [n] u
    return GRAMS_PER_CM3 * mass / volume
