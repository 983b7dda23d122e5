"""What every reader returns: a density that is valid, or an error that says why it is not."""

import dataclasses
import math
import warnings
from collections.abc import Sequence

import numpy as np
from pymatgen.core import Composition, Element

from densityjax.runtime.errors import UserError

MAX_VOXELS = 2**30  # of one grid, 1024^3: 8.6 GB of float64; the largest real ones have 1e8
MAX_ATOMS = 1_000_000
MAX_LENGTH = 1e5  # Å, of a component of a cell vector; also what keeps volumes finite
UNKNOWN_ELEMENT = 0  # atomic number of an atom that the file does not name
# Cells that hold less are no crystal: hydrogen at 1 Mbar takes 2 Å^3.
MIN_VOLUME = 1e-2  # Å^3


class DensityFormatError(UserError):
    """A density file that cannot be read; the message names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class Density:
    """Electron density of a crystal on the regular grid of its unit cell, of valence as a rule.

    Voxel (i, j, k) of a grid [X, Y, Z] is the point (i/X, j/Y, k/Z) in fractional coordinates.

    Attributes:
        values: float64 [X, Y, Z] electrons/Å^3.
        magnetization: float64 [X, Y, Z] μB/Å^3, or None without spin. Collinear: spin up minus spin
            down. Non-collinear: the magnitude |m|, which no rotation of the spins changes.
        lattice: float64 [3, 3] Å, rows are the cell vectors.
        species: int [N] atomic numbers, 0 for an atom that the file does not name.
        positions: float64 [N, 3] fractional, in [0, 1).
        code: 'VASP' when the file shows it by PAW augmentation occupancies, else 'unknown'.
        source: name of the file, for messages.
        charge: e, net charge of the cell where the file states it, else 0.
        notes: what the reader had to assume or left out, a sentence each.
        stated_spins: of the calculation, where the file states them, else 0.
    """

    values: np.ndarray
    magnetization: np.ndarray | None
    lattice: np.ndarray
    species: np.ndarray
    positions: np.ndarray
    code: str
    source: str
    charge: float = 0.0
    notes: tuple[str, ...] = ()
    stated_spins: int = 0

    @property
    def volume(self) -> float:
        """Volume of the cell, Å^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def num_electrons(self) -> float:
        """Integral of the density over the cell."""
        return float(self.values.mean() * self.volume)

    @property
    def formula(self) -> str:
        """Reduced formula, 'Hf2S'; an unnamed element is 'X', and no atoms are ''."""
        counts = self._counts()
        if "X" in counts:
            divisor = math.gcd(*counts.values())
            return "".join(f"{s}{n // divisor if n > divisor else ''}" for s, n in counts.items())
        with warnings.catch_warnings():
            # Elements are ordered by electronegativity, of which noble gases have none.
            warnings.filterwarnings("ignore", "No Pauling electronegativity")
            return Composition(counts).reduced_formula if counts else ""

    @property
    def chemical_system(self) -> str:
        """Elements in alphabetical order, 'Hf-S'."""
        return "-".join(sorted(self._counts()))

    def _counts(self) -> dict[str, int]:
        """Symbol -> number of atoms."""
        numbers, counts = np.unique(self.species, return_counts=True)
        return {symbol(z): int(n) for z, n in zip(numbers, counts, strict=True)}


def symbol(number: int) -> str:
    """'Fe' for 26, 'X' for an atom without a name."""
    return "X" if number == UNKNOWN_ELEMENT else Element.from_Z(int(number)).symbol


def check_lattice(lattice: np.ndarray, where: str) -> float:
    """Volume of the cell in Å^3.

    Raises:
        DensityFormatError: `lattice` [3, 3] in Å spans no cell that could be meant.
    """
    # NaN fails every comparison.
    if not (abs(lattice) < MAX_LENGTH).all() or not (
        (volume := abs(np.linalg.det(lattice))) > MIN_VOLUME
    ):
        raise DensityFormatError(
            f"{where}: expected three independent cell vectors, of a volume above {MIN_VOLUME} Å^3 "
            f"and components below {MAX_LENGTH:g} Å, found {np.array2string(lattice, precision=4)}"
        )
    return float(volume)


def without_ghosts(numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which atoms are real, bool [N], of atomic numbers [N], and a note if some are not.

    Ghosts are basis functions without an atom: of number 0 (CP2K) or below (SIESTA). Where no atom
    has a number above 0 all are kept, as atoms that the file does not name.
    """
    real = numbers > 0
    if real.all() or not real.any():
        return np.ones(len(numbers), bool), []
    return real, [f"{(~real).sum()} of {len(real)} atoms are ghosts (of number 0 or below), they "
                  "are left out"]


def check_shape(shape: Sequence[int], where: str) -> tuple[int, int, int]:
    """The shape of a grid as a tuple.

    Raises:
        DensityFormatError: not three positive numbers, or more voxels than `MAX_VOXELS`.
    """
    if len(shape) != 3 or not all(size > 0 for size in shape):
        raise DensityFormatError(f"{where}: expected three positive grid dimensions, found {shape}")
    if math.prod(map(int, shape)) > MAX_VOXELS:
        raise DensityFormatError(
            f"{where}: a grid of {' x '.join(map(str, shape))}; expected at most {MAX_VOXELS} "
            "voxels, the limit of this reader (density.MAX_VOXELS)"
        )
    return tuple(map(int, shape))


def _cancels(values: np.ndarray) -> bool:
    """Whether the negative voxels of [X, Y, Z] take back nearly all that the others hold."""
    negative = -values.sum(where=values < 0)
    return bool(negative > 0.8 * (values.sum() + negative))


def make_density(
    values: np.ndarray,
    spin: Sequence[np.ndarray],
    lattice: np.ndarray,
    species: np.ndarray,
    positions: np.ndarray,
    source: str,
    *,
    factor: float,
    code: str = "unknown",
    charge: float = 0.0,
    notes: Sequence[str] = (),
) -> Density:
    """A valid `Density` of what a file holds. Overwrites `values` and `spin`.

    Args:
        values: float64 [X, Y, Z], density in the file's unit.
        spin: no, one (collinear) or three (non-collinear) float64 [X, Y, Z], the same.
        lattice: [3, 3] Å.
        species: int [N].
        positions: [N, 3] fractional, anywhere.
        factor: of the file's unit to e/Å^3.

    Raises:
        DensityFormatError: numbers that are not finite, atoms that do not exist, no electrons.
    """
    volume = check_lattice(lattice, source)
    for block, field in enumerate((values, *spin), start=1):
        # In place and without temporaries: large grids fill the memory. A sum is NaN or infinite
        # if a term is; it may also overflow, which only `isfinite` tells apart.
        if abs(factor - 1) > 0:
            with np.errstate(over="ignore", invalid="ignore"):
                np.multiply(field, factor, out=field)
        with np.errstate(over="ignore", invalid="ignore"):
            total = field.sum()
        if not np.isfinite(total):
            bad = np.flatnonzero(~np.isfinite(field.ravel(order="K")))
            position = f", the first at number {bad[0] + 1}" if len(bad) else ""
            raise DensityFormatError(
                f"{source}: grid block {block} of {field.shape} holds NaN or infinity{position}; "
                "expected finite numbers"
            )
    species = np.asarray(species, np.int64)  # [N]
    electrons = values.mean() * volume
    if not electrons > 0 or (electrons < 0.1 * len(species) and _cancels(values)):
        raise DensityFormatError(
            f"{source}: the density integrates to {electrons:.4g} electrons; expected "
            "a positive number (is this a potential or a difference?)"
        )
    positions = np.asarray(positions, np.float64).reshape(-1, 3)  # [N, 3]
    if len(species) != len(positions) or not np.isfinite(positions).all():
        raise DensityFormatError(
            f"{source}: expected the position of each of {len(species)} atoms, three finite numbers"
        )
    if len(species) and not (species.min() >= 0 and species.max() <= 118):
        raise DensityFormatError(
            f"{source}: expected atomic numbers from 1 to 118, found {species.min()} to "
            f"{species.max()}"
        )
    positions = positions - np.floor(positions)
    positions[positions >= 1.0] = 0.0  # -1e-17 + 1 rounds to 1
    magnetization = spin[0] if spin else None  # [X, Y, Z]
    if len(spin) > 1:
        with np.errstate(over="ignore"):
            np.multiply(magnetization, magnetization, out=magnetization)
            for component in spin[1:]:
                np.multiply(component, component, out=component)
                np.add(magnetization, component, out=magnetization)
        np.sqrt(magnetization, out=magnetization)
        if not np.isfinite(magnetization.max()):
            raise DensityFormatError(f"{source}: the magnetisation overflows; expected numbers")
    if (species == UNKNOWN_ELEMENT).any():
        notes = (*notes, "the file does not name all its elements, they are written X")
    return Density(
        values, magnetization, np.asarray(lattice, np.float64), species, positions, code, source,
        float(charge), tuple(notes),
    )
