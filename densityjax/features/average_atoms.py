"""The average atom of each element, fitted to densities, and its superposition.

An atom is a sum of Gaussians with positive coefficients, so that a superposition is positive and
its Fourier coefficients have a closed form: no images of atoms are summed.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from scipy.optimize import nnls

from densityjax.density.density import symbol
from densityjax.features.field import make_field
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced

WIDTHS = np.geomspace(0.2, 2.0, 9)  # Å, standard deviations of the Gaussians
MAX_DENSITIES = 1000  # that are fitted to; so many have nearly all elements of a dataset
_STRIDE = 7  # of the waves in a density's sphere every so many is fitted to: thousands are left
_LEAST = 1e-6  # e/Å^3, of a superposition: truncated waves ring


@dataclasses.dataclass(frozen=True)
class AverageAtoms:
    """Average atoms.

    Attributes:
        numbers: [E] atomic numbers.
        coefficients: [E, W] electrons in the Gaussian of each of `WIDTHS`.
    """

    numbers: np.ndarray
    coefficients: np.ndarray

    def superposition(
        self, lattice: np.ndarray, species: np.ndarray, positions: np.ndarray, grid: int
    ) -> np.ndarray:
        """[G, G, G] e/Å^3, as a record stores a density: only the waves that its grid carries.

        Args:
            lattice: [3, 3] Å.
            species: [N] atomic numbers.
            positions: [N, 3] fractional.
            grid: G.

        Raises:
            UserError: an element was in none of the densities.
        """
        missing = sorted(set(species.tolist()) - set(self.numbers.tolist()))
        if missing:
            raise UserError(
                f"no average atom of {', '.join(map(symbol, missing))}: no training density has "
                "it; take --reference=uniform"
            )
        lattice = np.asarray(lattice, np.float64)
        axes = _waves(grid)  # multiples of the reciprocal vectors, [G], [G], [G // 2 + 1]
        waves = np.stack(np.meshgrid(*axes, indexing="ij"))  # [3, G, G, G // 2 + 1]
        vectors = 2 * np.pi * np.linalg.inv(lattice) @ waves.reshape(3, -1)
        gaussians = _gaussians(np.square(vectors).sum(0))  # [K, W]
        amplitude = np.zeros(waves.shape[1:], complex)
        for number, row in zip(self.numbers, self.coefficients, strict=True):
            where = positions[species == number].astype(np.float64)  # [n, 3]
            if len(where):
                along = [np.exp(-2j * np.pi * np.outer(x, h)) for x, h in zip(where.T, axes)]
                phases = np.einsum("nx,ny,nz->xyz", *along, optimize=True)
                amplitude += phases * (gaussians @ row).reshape(phases.shape)
        amplitude /= abs(np.linalg.det(lattice))
        return np.maximum(scipy.fft.irfftn(amplitude, (grid,) * 3, norm="forward"), _LEAST)

    def save(self, path: Path) -> None:
        """Replaces a NumPy archive in one step."""
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "AverageAtoms":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as content:
            return cls(content["numbers"], content["coefficients"])


def fit_average_atoms(records: Iterable[Mapping[str, Any]]) -> AverageAtoms:
    """Least squares over all densities, each weighted by one over its electrons squared.

    The integral over the cell of the squared difference is, after Parseval, a sum over waves.

    Args:
        records: with density, lattice, species and positions, see `density.record.make_record`.
    """
    size, index = len(WIDTHS), {}  # {atomic number: place}
    blocks: dict[tuple[int, int], np.ndarray] = {}
    right: dict[int, np.ndarray] = {}
    for record in records:
        parts, target = _equations(record)
        for number, own in parts.items():
            index.setdefault(number, len(index))
            right[number] = right.get(number, 0) + own.T @ target
            for other, more in parts.items():
                key = number, other
                blocks[key] = blocks.get(key, 0) + own.T @ more
    numbers = sorted(index)
    matrix = np.zeros((len(numbers), size, len(numbers), size))
    for (first, second), block in blocks.items():
        matrix[numbers.index(first), :, numbers.index(second)] = block
    matrix = matrix.reshape(len(numbers) * size, -1)
    matrix += 1e-6 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    factor = np.linalg.cholesky(matrix)  # |L^T c - L^-1 r|^2 has the same minimum
    found, _ = nnls(factor.T, np.linalg.solve(factor, np.concatenate([right[n] for n in numbers])))
    return AverageAtoms(np.array(numbers), found.reshape(len(numbers), size))


def _equations(record: Mapping[str, Any]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Design {atomic number: [2 K, W]} and target [2 K] of a density, real and imaginary parts."""
    field = make_field(record["density"][..., 0], record["lattice"])
    waves = field.wave_vectors[:, ::_STRIDE].astype(np.float64)  # [3, K] rad/Å
    cartesian = record["positions"].astype(np.float64) @ record["lattice"].astype(np.float64)
    # In units of electrons: V times a coefficient; 1 / V is the volume element of the sum.
    scale = np.sqrt(field.multiplicity[::_STRIDE] / field.volume)
    scale = scale / float(record["num_electrons"])
    gaussians = _gaussians(np.square(waves).sum(0)) * scale[:, None]  # [K, W]
    target = field.spectrum[::_STRIDE] * field.volume * scale
    parts = {}
    for number in np.unique(record["species"]).tolist():
        phases = np.exp(-1j * cartesian[record["species"] == number] @ waves).sum(0)  # [K]
        own = phases[:, None] * gaussians
        parts[number] = np.concatenate([own.real, own.imag])
    return parts, np.concatenate([target.real, target.imag])


def _gaussians(squared: np.ndarray) -> np.ndarray:
    """[K, W] Fourier transforms of normalised Gaussians at squared wave numbers [K] rad²/Å²."""
    return np.exp(-squared[:, None] * np.square(WIDTHS) / 2)


def _waves(grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    full = scipy.fft.fftfreq(grid, 1 / grid)
    return full, full, np.arange(grid // 2 + 1)
