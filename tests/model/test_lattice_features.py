import numpy as np
import pytest

from densityjax.model.lattice_features import NUM_FEATURES, lattice_features

LATTICE = np.array([[4.0, 0.3, -0.2], [-1.1, 5.0, 0.4], [0.7, 1.3, 6.0]])  # Å


@pytest.mark.parametrize("kind", NUM_FEATURES)
def test_width(kind):
    assert lattice_features(LATTICE[None], np.ones(1), kind).shape == (1, NUM_FEATURES[kind])


def test_values_against_the_eigenvalues_of_the_metric():
    eigenvalues = np.linalg.eigvalsh(LATTICE @ LATTICE.T)
    e1, e2, e3 = eigenvalues
    expected = [
        np.log(np.sqrt(e1 * e2 * e3) / 12),
        np.log(np.sqrt((e1 + e2 + e3) / 3)),
        np.log(((e1 * e2 + e2 * e3 + e3 * e1) / 3) ** 0.25),
        np.log((e1 * e2 * e3) ** (1 / 6)),
    ]
    features = lattice_features(LATTICE[None], np.full(1, 12.0), "metric")
    np.testing.assert_allclose(features[0], expected, rtol=1e-5)
    # A cube of edge a has all three lengths equal to a.
    cube = lattice_features(np.eye(3)[None] * 3.7, np.full(1, 12.0), "metric")
    np.testing.assert_allclose(cube[0, 1:], np.log(3.7), rtol=1e-5)


def test_volume_per_electron_of_a_supercell_is_the_same():
    cells = np.stack([LATTICE, LATTICE * [[1], [1], [2]]])
    features = lattice_features(cells, np.array([12.0, 24.0]), "volume_per_electron")
    np.testing.assert_allclose(features[1], features[0], rtol=1e-5)
