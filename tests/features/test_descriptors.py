"""Elements told by their surroundings, components against scikit-learn's, files."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from densityjax.features.descriptors import Descriptors, fit_descriptors
from densityjax.features.identification import fit_finder
from densityjax.features.record_features import structure_features
from densityjax.features.reduction import fit_reduction

NUMBERS = np.array([3, 8, 11, 17, 26, 51])


@pytest.fixture(scope="module")
def materials():
    """Forty of them: an atom looks like its element, plus a little that differs."""
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(100, 9))
    species = [rng.choice(NUMBERS, rng.integers(1, 6)) for _ in range(40)]
    around = [looks[s] + 0.05 * rng.normal(size=(len(s), 9)) for s in species]
    lattice = np.stack([np.eye(3) * rng.uniform(3, 6) for _ in species])
    positions = [rng.uniform(size=(len(s), 3)) for s in species]
    return species, around, lattice, positions


def _electrons(species) -> np.ndarray:
    """As if each element brought as many as its place in the list, and one."""
    return np.array([np.sum(np.searchsorted(NUMBERS, s) + 1.0) for s in species])


def test_elements_are_found_without_reading_species(materials):
    species, around, _, _ = materials
    electrons = _electrons(species)
    finder = fit_finder(around[:30], species[:30], electrons[:30])
    for found, expected in zip(finder(around[30:], electrons[30:]), species[30:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_training_material_is_compared_with_the_others(materials):
    species, around, _, _ = materials
    wrong = [np.array([92]), *species[1:30]]  # an element that no other material has
    electrons = _electrons([species[0][:1], *species[1:30]])
    finder = fit_finder([around[0][:1], *around[1:30]], wrong, electrons)
    # A new file with the same surroundings:
    assert finder([around[0][:1]], electrons)[0] == 92
    found = finder([around[0][:1], *around[1:30]], electrons, training=True)
    assert found[0] == species[0][0]
    for own, expected in zip(found[1:], species[1:30], strict=True):
        np.testing.assert_array_equal(own, expected)


def test_components_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8)) + 3
    features[:, 5] = 7.0  # constant: left out
    reduction = fit_reduction(features, 4)
    varying = np.delete(features, 5, axis=1)
    scaled = StandardScaler().fit_transform(varying)
    reference = PCA(4).fit(scaled)
    found = reduction(features)
    expected = np.abs(reference.transform(scaled))
    np.testing.assert_allclose(np.abs(found), expected, atol=4e-3)  # of float16
    largest = np.abs(reduction.components).argmax(axis=0)
    assert (reduction.components[largest, np.arange(4)] > 0).all()
    hole = features[:1].copy()
    hole[0, 2] = np.nan
    filled = hole.copy()
    filled[0, 2] = features[:, 2].mean()
    np.testing.assert_allclose(reduction(hole), reduction(filled), atol=1e-5)
    more = fit_reduction(features, 9)  # than there are features that vary
    np.testing.assert_array_equal(more(features)[:, :4], found)
    assert (more(features)[:, 7:] == 0).all()


def test_descriptors_survive_a_file(materials, tmp_path):
    species, around, lattice, positions = materials
    electrons, rng = _electrons(species), np.random.default_rng(2)
    features = {
        "invariants": rng.normal(size=(40, 20)), "surroundings": around, "positions": positions,
    }
    train = {name: values[:30] for name, values in features.items()}
    test = {name: values[30:] for name, values in features.items()}
    sizes = {"invariants": 5, "identified": 3, "composition": 0}
    descriptors, whole = fit_descriptors(
        train, species[:30], lattice[:30], electrons[:30], sizes, identify=False
    )
    assert descriptors.size == 8
    assert descriptors(whole, 30).shape == (30, 8)
    complete = descriptors.complete(test, lattice[30:], electrons[30:])
    for row, cell in enumerate(zip(species[30:], lattice[30:], positions[30:], strict=True)):
        np.testing.assert_array_equal(complete["identified"][row], structure_features(*cell))
    descriptors.save(tmp_path / "descriptors.npz")
    loaded = Descriptors.load(tmp_path / "descriptors.npz")
    again = loaded.complete(test, lattice[30:], electrons[30:])
    np.testing.assert_array_equal(loaded(again, 10), descriptors(complete, 10))
    none, same = fit_descriptors(
        {}, species, lattice, electrons, {"invariants": 0}, identify=False
    )
    assert (none.size, same) == (0, {})
    assert none({}, 3).shape == (3, 0)
