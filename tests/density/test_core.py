"""What is seen of a density: nothing of a core but its charge, everything of the rest."""

import numpy as np
import pytest
from ase.geometry import get_distances

from densityjax.density.core import RADIUS, charges_alone, seen_record

LATTICE = np.array([[3.9, 0.0, 0.0], [1.2, 3.6, 0.0], [-0.7, 0.9, 4.2]])  # Å, skewed
POSITIONS = np.array([[0.02, 0.98, 0.5], [0.55, 0.4, 0.1]])  # the first reaches over the faces
SIZE = 36


def _points(size: int = SIZE) -> np.ndarray:
    """[size^3, 3] Å."""
    steps = np.arange(size) / size
    return np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) @ LATTICE


def _distances() -> np.ndarray:
    """[N, voxels] Å from each atom to the nearest image of each voxel, by ASE."""
    return get_distances(POSITIONS @ LATTICE, _points(), cell=LATTICE, pbc=True)[1]


def _gaussian(distances: np.ndarray, width: float) -> np.ndarray:
    """Of integral 1 e."""
    return np.exp(-np.square(distances / width) / 2) / (2 * np.pi * width**2) ** 1.5


@pytest.fixture(scope="module")
def density() -> np.ndarray:
    """Bonds and cores, and a magnetisation, [G, G, G, 2]."""
    away = _distances()
    smooth = 0.3 + 0.1 * np.cos(2 * np.pi * _points() @ np.linalg.inv(LATTICE)).sum(axis=1)
    charge = smooth + 3 * _gaussian(away[0], 0.35) + 6 * _gaussian(away[1], 0.3)
    moment = 2 * _gaussian(away[1], 0.3) + 0.01
    return np.stack([charge, moment], axis=-1).reshape(SIZE, SIZE, SIZE, 2).astype(np.float32)


def test_all_is_the_record_itself(density):
    record = {"density": density, "lattice": LATTICE, "positions": POSITIONS}
    assert seen_record(record, "all") is record
    assert seen_record(record, "charge").keys() == record.keys()
    with pytest.raises(ValueError, match="expected one of"):
        seen_record(record, "hidden")


def test_a_core_of_another_shape_and_the_same_charge_is_seen_alike(density):
    away = _distances()[1]
    # All but a hundredth of it within the part of which no shape is seen.
    change = 4 * (_gaussian(away, 0.15) - _gaussian(away, 0.2))
    other = density.copy()
    other[..., 0] += change.reshape(density.shape[:3])
    before, after = (charges_alone(own, LATTICE, POSITIONS) for own in (density, other))
    assert np.abs(other - density).max() > 20
    assert np.abs(after - before).max() < 0.01
    # Charge that was not there before is seen.
    other[..., 0] = density[..., 0] + _gaussian(away, 0.2).reshape(density.shape[:3])
    assert np.abs(charges_alone(other, LATTICE, POSITIONS) - before).max() > 0.2


def test_electrons_and_moment_stay_and_so_does_the_density_outside(density):
    seen = charges_alone(density, LATTICE, POSITIONS)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(
        seen.mean(axis=(0, 1, 2), dtype=np.float64),
        density.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6,
    )
    outside = (_distances() > RADIUS + 1e-6).all(axis=0).reshape(density.shape[:3])
    assert 0.3 < outside.mean() < 0.99
    np.testing.assert_array_equal(seen[outside], density[outside])
    assert (np.abs(seen - density)[~outside] > 1e-3).any()


def test_cells_smaller_than_a_sphere_are_seen_like_their_supercells():
    rng = np.random.default_rng(0)
    lattice, position = np.diag([1.9, 2.1, 3.0]), np.array([[0.3, 0.9, 0.05]])
    density = rng.gamma(1.0, 0.4, (10, 12, 16, 1)).astype(np.float32)
    doubled = np.array([2, 1, 1])
    positions = np.concatenate([position, position + np.array([1, 0, 0])]) / doubled
    np.testing.assert_allclose(
        charges_alone(np.tile(density, (2, 1, 1, 1)), lattice * doubled[:, None], positions),
        np.tile(charges_alone(density, lattice, position), (2, 1, 1, 1)), rtol=1e-4, atol=1e-5,
    )


def test_strange_cells_stay_as_they_are():
    density = np.random.default_rng(1).random((8, 8, 8, 1)).astype(np.float32)
    no_atoms = np.zeros((0, 3))
    np.testing.assert_array_equal(charges_alone(density, LATTICE, no_atoms), density)
    thin = np.diag([1e-3, 1e-3, 5.0])
    np.testing.assert_array_equal(charges_alone(density, thin, POSITIONS), density)
    # Voxels so far apart that none is in a sphere.
    vast = charges_alone(density, np.eye(3) * 100, np.full((1, 3), 0.56))
    np.testing.assert_array_equal(vast, density)
