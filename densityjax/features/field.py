"""A density as its invariants see it: in a reduced cell, and as waves that every cell agrees on."""

import dataclasses
import functools

import numpy as np
import scipy.fft
from ase.geometry import minkowski_reduce

FLOOR = 1e-3  # e/Å^3, under every logarithm of a density
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
        places: int [K] the waves inside the sphere, flat indices into [X, Y, Z // 2 + 1], the half
          of all that `rfftn` has; the first is k = 0.
        wave_vectors: float32 [3, K] rad/Å, Cartesian.
        wave_numbers: float32 [K] rad/Å, their lengths.
        multiplicity: float32 [K], 2 for a wave whose opposite is in the half left out, else 1.
        spectrum: complex64 [K], in the unit of `values`: mean of f exp(-i k r).
    """

    values: np.ndarray
    lattice: np.ndarray
    places: np.ndarray
    wave_vectors: np.ndarray
    wave_numbers: np.ndarray
    multiplicity: np.ndarray
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
    def logarithm(self) -> np.ndarray:
        """[X, Y, Z] of the values, `FLOOR` where they are less."""
        return np.log(np.maximum(self.values, FLOOR))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Coefficients [K] of another field on the same grid, for the waves at `places`."""
        return scipy.fft.rfftn(values, norm="forward").ravel()[self.places]

    def evaluate(self, coefficients: np.ndarray) -> np.ndarray:
        """Fields [..., X, Y, Z] of coefficients [..., K]."""
        x, y, z = self.values.shape
        lead = coefficients.shape[:-1]
        spectra = np.zeros((*lead, x * y * (z // 2 + 1)), np.complex64)
        spectra[..., self.places] = coefficients
        spectra = spectra.reshape(*lead, x, y, z // 2 + 1)
        return scipy.fft.irfftn(
            spectra, (x, y, z), axes=(-3, -2, -1), norm="forward", overwrite_x=True
        )

    def derivatives(self) -> np.ndarray:
        """[4, X, Y, Z]: gradient (unit of `values` per Å) and Laplacian (per Å^2)."""
        coefficients = np.concatenate([
            1j * self.wave_vectors, -np.square(self.wave_numbers)[None],
        ]) * self.spectrum
        return self.evaluate(coefficients)


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
    places, vectors, multiplicity = _waves(values.shape, lattice)
    spectrum = scipy.fft.rfftn(values, norm="forward").ravel()[places]
    numbers = np.sqrt(np.square(vectors).sum(axis=0))  # [K]
    return PeriodicField(values, lattice, places, vectors, numbers, multiplicity, spectrum)


def _in_basis(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Values at the points (i, j, k) of the new basis: those at (i, j, k) @ basis of the old."""
    size = values.shape[0]
    steps = np.arange(size)
    flat = np.zeros((size, size, size), np.int32)  # index into the old grid
    for axis in range(3):
        i, j, k = (np.multiply.outer(basis[:, axis], steps) % size).astype(np.int32)  # [size] each
        plane = np.add.outer(i, j) % np.int32(size)
        old = plane[:, :, None] + k  # below 2 size
        old -= np.int32(size) * (old >= size)
        flat = flat * np.int32(size) + old
    return values.ravel()[flat]


def _waves(shape: tuple[int, ...], lattice: np.ndarray) -> tuple[np.ndarray, ...]:
    """Places, wave vectors and multiplicities of `PeriodicField`."""
    reciprocal = 2 * np.pi * np.linalg.inv(lattice).T  # rows, rad/Å
    x, y = (scipy.fft.fftfreq(size, 1 / size) for size in shape[:2])
    z = np.arange(shape[2] // 2 + 1.0)
    parts = [np.multiply.outer(reciprocal[i], n) for i, n in enumerate((x, y, z))]  # [3, n] each
    # |k|^2 as a sum of what depends on two axes at most.
    plane = np.square(parts[0][:, :, None] + parts[1][:, None]).sum(axis=0)  # [X, Y]
    tilt = np.tensordot(parts[0], 2 * parts[2], (0, 0))  # [X, Z]
    other = np.tensordot(parts[1], 2 * parts[2], (0, 0))  # [Y, Z]
    square = plane[:, :, None] + (tilt[:, None] + (other + np.square(parts[2]).sum(axis=0)))
    limit = cutoff(shape, lattice) * (1 - _MARGIN)
    places = np.flatnonzero(square < limit**2)
    lines = places // len(z)
    along_z = z[places - lines * len(z)]
    numbers = np.stack([x[lines // len(y)], y[lines % len(y)], along_z])  # [3, K]
    vectors = (reciprocal.T @ numbers).astype(np.float32)  # [3, K]
    return places, vectors, np.where(along_z > 0, np.float32(2), np.float32(1))
