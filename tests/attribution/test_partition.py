"""Voxels of atoms, average atoms and references, against what is known of them."""

import numpy as np
import pytest

from densityjax.attribution.partition import atom_weights
from densityjax.attribution.references import reference_density
from densityjax.attribution.smoothing import gaussian_smooth
from densityjax.features.average_atoms import AverageAtoms, fit_average_atoms
from densityjax.runtime.errors import UserError
from tests.attribution.conftest import ATOMS, crystal, material

FCC = np.array([[0, 2.0, 2.0], [2.0, 0, 2.0], [2.0, 2.0, 0]])


def test_equal_atoms_share_equally_in_every_description_of_the_cell():
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    weights = atom_weights(FCC, places, 12)
    assert weights.sum(0) == pytest.approx(1)
    assert weights.min() >= 0
    assert weights[0].mean() == pytest.approx(0.5, abs=1e-6)
    assert weights[0] == pytest.approx(np.roll(weights[1], (6, 6, 6), (0, 1, 2)), abs=1e-6)
    # A voxel on an atom is that atom's; one between two atoms is of both.
    assert weights[0][0, 0, 0] > 0.99
    skewed = np.array([[1, 0, 0], [3, 1, 0], [0, -2, 1]]) @ FCC
    again = atom_weights(skewed, places @ FCC @ np.linalg.inv(skewed), 12)
    assert again[:, 0, 0, 0] == pytest.approx(weights[:, 0, 0, 0], abs=1e-6)
    double = np.diag([2, 1, 1]) @ FCC
    four = np.concatenate([places, places + np.eye(3)[0]]) / [2, 1, 1]
    again = atom_weights(double, four, 12)
    assert (again[0] + again[2])[:6] == pytest.approx(weights[0][::2], abs=1e-6)


def test_average_atoms_are_those_that_densities_are_made_of(tmp_path):
    lattice = np.diag([4.0, 4.5, 5.0])
    made = [crystal(4.0), crystal(4.4), crystal(3.8, number=11),
            material(lattice, np.array([17], np.int32), np.zeros((1, 3)))]
    atoms = fit_average_atoms(m.record for m in made)
    assert atoms.numbers.tolist() == [11, 17]
    assert atoms.coefficients.sum(1) == pytest.approx(ATOMS.coefficients.sum(1), rel=0.05)
    record = crystal(4.2).record
    found = reference_density(record, atoms)
    error = np.abs(found - record["density"]).mean() / record["density"].mean()
    assert error < 0.03
    assert found.mean() == pytest.approx(record["density"].mean(), rel=1e-5)
    atoms.save(tmp_path / "atoms.npz")
    again = AverageAtoms.load(tmp_path / "atoms.npz")
    assert np.array_equal(again.coefficients, atoms.coefficients)
    with pytest.raises(UserError, match="no average atom of Fe"):
        atoms.superposition(lattice, np.array([26]), np.zeros((1, 3)), 8)


def test_a_superposition_is_a_sum_of_gaussians():
    lattice = np.diag([6.0, 6.0, 6.0])
    values = ATOMS.superposition(lattice, np.array([17]), np.zeros((1, 3)), 24)
    width = np.geomspace(0.2, 2.0, 9)[[6, 7]]
    steps = np.arange(-2, 3) * 6.0
    images = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    squared = np.square(images + np.array([1.0, 0.5, 0])).sum(1)  # the point (4, 2, 0) of 24
    each = np.exp(-squared[:, None] / (2 * width**2)) / (2 * np.pi * width**2) ** 1.5
    assert values[4, 2, 0] == pytest.approx(float((each @ [2.0, 5.0]).sum()), rel=1e-4)


def test_the_uniform_reference_has_the_electrons_and_no_moment():
    record = crystal().record
    record["density"] = np.repeat(record["density"], 2, axis=-1)
    found = reference_density(record, None)
    assert np.ptp(found[..., 0]) == 0
    assert found[0, 0, 0, 0] == pytest.approx(record["density"][..., 0].mean(), rel=1e-6)
    assert not found[..., 1].any()


def test_smoothing_keeps_sums_and_is_a_gaussian():
    spike = np.zeros((16, 16, 16))
    spike[3, 4, 5] = 2.0
    found = gaussian_smooth(spike, np.diag([8.0, 8.0, 8.0]), 1.0)
    assert found.sum() == pytest.approx(2)
    assert found[5, 4, 5] / found[3, 4, 5] == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert gaussian_smooth(spike, np.eye(3), 0) is spike
