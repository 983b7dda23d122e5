"""The nearest atom of each voxel, against all images of all atoms, and what is made of it."""

import itertools

import numpy as np
import pytest

from densityjax.features.nearest_atoms import nearest_atoms
from densityjax.features.voxel_targets import voxel_targets

SKEWED = np.array([[3.0, 0, 0], [8.5, 2.9, 0], [-7.0, 5.5, 4.0]])


@pytest.mark.parametrize("lattice", [np.diag([3.0, 4.0, 9.0]), SKEWED])
def test_every_image_counts(lattice):
    rng = np.random.default_rng(3)
    positions, grid = rng.uniform(-1, 2, (4, 3)), 6
    found = nearest_atoms(lattice, positions, grid)
    shifts = np.array(list(itertools.product(range(-7, 8), repeat=3)))
    steps = np.array(list(np.ndindex(grid, grid, grid))) / grid  # [G^3, 3]
    distance = np.stack([
        np.linalg.norm(
            (steps[:, None] - (atom + shifts)[None]) @ lattice, axis=-1
        ).min(axis=1)
        for atom in positions % 1
    ])
    chosen = distance[found.ravel(), np.arange(grid**3)]
    np.testing.assert_allclose(chosen, distance.min(axis=0), atol=1e-9)


def test_the_nearest_element_is_that_of_the_periodic_table():
    record = {
        "density": np.zeros((4, 4, 4, 1), np.float32), "lattice": np.eye(3) * 4,
        "species": np.array([11, 17]), "positions": np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    }
    found = voxel_targets(record, ("nearest_element", "masked"), None)
    np.testing.assert_allclose(found[0, 0, 0], [3, 1, 0.93])  # Na
    np.testing.assert_allclose(found[2, 2, 2], [3, 17, 3.16])  # Cl
    np.testing.assert_allclose(found[3, 3, 0], [3, 1, 0.93])  # through the faces
