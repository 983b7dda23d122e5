"""A density as its invariants see it: in a reduced cell, and as waves that every cell agrees on."""

import dataclasses
import functools

import numpy as np
import scipy.fft
from ase.geometry import minkowski_reduce

# Waves of |k| close to the limit are left out, so that rounding decides on none.
_MARGIN = 1e-5


@dataclasses.dataclass(frozen=True)
class PeriodicField:
    """A real field on the grid of a cell, and its Fourier coefficients in a sphere.

    The grid carries all waves with |k| < pi / h, h the longest edge of a voxel; beyond, which waves
    it carries depends on the choice of cell, so they are left out of everything that needs
    derivatives or convolutions. `values` keep them.

    Attributes:
        values: float32 [X, Y, Z].
        lattice: float64 [3, 3] Å, rows are the cell vectors.
        wave_vectors: float32 [3, X, Y, Z // 2 + 1] rad/Å, Cartesian; half of all, as `rfftn` has.
        wave_numbers: float32 [X, Y, Z // 2 + 1] rad/Å, their lengths.
        inside: bool [X, Y, Z // 2 + 1], within the sphere.
        spectrum: complex64 [X, Y, Z // 2 + 1], in the unit of `values`: mean of f exp(-i k r);
          0 outside the sphere.
    """

    values: np.ndarray
    lattice: np.ndarray
    wave_vectors: np.ndarray
    wave_numbers: np.ndarray
    inside: np.ndarray
    spectrum: np.ndarray

    @property
    def volume(self) -> float:
        """Of the cell, Å^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def cutoff(self) -> float:
        """Radius of the sphere, rad/Å."""
        return float(cutoff(self.values.shape, self.lattice))

    @functools.cached_property
    def multiplicity(self) -> np.ndarray:
        """[X, Y, Z // 2 + 1]: 2 for a wave whose opposite is in the half left out, else 1."""
        weights = np.full(self.spectrum.shape, 2.0, np.float32)
        weights[..., 0] = 1.0
        return weights

    @functools.cached_property
    def places(self) -> np.ndarray:
        """[K] flat indices of the waves inside the sphere into arrays [X, Y, Z // 2 + 1]."""
        return np.flatnonzero(self.inside)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Coefficients [K] of another field on the same grid, for the waves at `places`."""
        return scipy.fft.rfftn(values, norm="forward").ravel()[self.places]

    def evaluate(self, spectra: np.ndarray) -> np.ndarray:
        """Fields [..., X, Y, Z] of coefficients [..., X, Y, Z // 2 + 1]."""
        return scipy.fft.irfftn(spectra, self.values.shape, axes=(-3, -2, -1), norm="forward")

    def gradient(self) -> np.ndarray:
        """Cartesian components [3, X, Y, Z], unit of `values` per Å."""
        return self.evaluate(1j * self.wave_vectors * self.spectrum)

    def laplacian(self) -> np.ndarray:
        """[X, Y, Z], unit of `values` per Å^2."""
        return self.evaluate(-np.square(self.wave_numbers) * self.spectrum)


def cutoff(shape: tuple[int, ...], lattice: np.ndarray) -> float:
    """Largest radius, rad/Å, of a sphere of waves that a grid of any basis of the cell carries."""
    return float(np.pi * (np.array(shape) / np.linalg.norm(lattice, axis=1)).min())


def make_field(values: np.ndarray, lattice: np.ndarray) -> PeriodicField:
    """The field in the cell of shortest vectors (Minkowski's), where the grid can be taken there.

    It can if it has as many points along each axis, as those of records have. The points are the
    same ones, in another order.

    Args:
        values: [X, Y, Z], any unit.
        lattice: [3, 3] Å.

    Raises:
        ValueError: shapes other than these.
    """
    values, lattice = np.asarray(values, np.float32), np.asarray(lattice, np.float64)
    if values.ndim != 3 or lattice.shape != (3, 3):
        raise ValueError(f"shapes {values.shape}, {lattice.shape}; expected [X, Y, Z] and [3, 3]")
    if len(set(values.shape)) == 1:
        reduced, basis = minkowski_reduce(lattice)  # reduced = basis @ lattice, basis of integers
        if not np.array_equal(basis, np.eye(3)):
            values, lattice = _in_basis(values, np.rint(basis).astype(int)), reduced
    vectors = _wave_vectors(values.shape, lattice)
    numbers = np.sqrt(np.einsum("axyz,axyz->xyz", vectors, vectors))
    inside = numbers < cutoff(values.shape, lattice) * (1 - _MARGIN)
    return PeriodicField(values, lattice, vectors, numbers, inside, _spectrum(values, inside))


def _in_basis(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Values at the points (i, j, k) of the new basis: those at (i, j, k) @ basis of the old."""
    size = values.shape[0]
    steps = np.arange(size)
    flat = 0  # index into the old grid, its axes one after the other
    for axis in range(3):
        old = (
            (steps * basis[0, axis])[:, None, None]
            + (steps * basis[1, axis])[:, None]
            + steps * basis[2, axis]
        )
        flat = flat * size + old % size
    return values.ravel()[flat]


def _wave_vectors(shape: tuple[int, ...], lattice: np.ndarray) -> np.ndarray:
    reciprocal = 2 * np.pi * np.linalg.inv(lattice).T  # rows, rad/Å
    x, y = (scipy.fft.fftfreq(size, 1 / size) for size in shape[:2])
    z = np.arange(shape[2] // 2 + 1)
    parts = [np.multiply.outer(reciprocal[i], n) for i, n in enumerate((x, y, z))]  # [3, n] each
    vectors = parts[0][:, :, None, None] + parts[1][:, None, :, None] + parts[2][:, None, None, :]
    return vectors.astype(np.float32)


def _spectrum(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return scipy.fft.rfftn(values, norm="forward") * inside
