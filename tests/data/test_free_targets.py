"""What records say of themselves: standardised by training rows, and unknown where it is."""

import dataclasses

import numpy as np
import pytest
from ase.data import chemical_symbols

from densityjax.data.dataset import DatasetError
from densityjax.data.free_targets import fit_free_targets
from densityjax.features.average_atoms import AverageAtoms
from tests.data.loading import load

NAMES = ("nearest_element", "deformation", "invariants")


@pytest.fixture(scope="module")
def records(builder):
    return load(builder, atoms=True, features=True)


@pytest.fixture(scope="module")
def fitted(records):
    return fit_free_targets(records, NAMES, components=5)


def test_training_rows_have_mean_0_and_spread_1(records, fitted):
    found = fitted.of(records, keep=True)
    rows = np.arange(len(records))
    for _ in range(2):  # computed, then remembered
        batch = found.batch(rows)
        grid = records.grid
        assert batch["voxels"].shape == (len(rows), grid, grid, grid, 4)
        np.testing.assert_allclose(batch["voxels"].mean((0, 1, 2, 3)), 0, atol=1e-3)
        np.testing.assert_allclose(batch["voxels"].std((0, 1, 2, 3)), 1, atol=1e-3)
        np.testing.assert_allclose(batch["view"].mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(batch["view"].std(0), 1, atol=1e-4)
    assert fitted.known(records).all()


def test_average_atoms_leave_little_of_a_density(records, fitted):
    """The superposition has the density's electrons, and most of its variation."""
    record = records.source[records.rows[0]]
    charge, names = record["density"][..., 0], records.species[0]
    superposed = fitted.atoms.superposition(record["lattice"], names, record["positions"], 24)
    assert (charge - superposed).std() < 0.5 * charge.std()


def test_an_element_of_no_training_density_is_masked(records, fitted):
    known = fitted.atoms
    gone = int(records.species[2][0])
    kept = known.numbers != gone
    fewer = dataclasses.replace(
        fitted, atoms=AverageAtoms(known.numbers[kept], known.coefficients[kept])
    )
    mask = fewer.known(records)
    expected = [gone not in species for species in records.species]
    np.testing.assert_array_equal(mask[:, 1], expected)
    assert mask[:, [0, 2]].all()
    values = fewer.of(records, keep=False).batch(np.array([2]))["voxels"]
    assert np.isfinite(values).all()
    whole = fitted.of(records, keep=False).batch(np.array([2]))["voxels"]
    np.testing.assert_array_equal(values[..., :3], whole[..., :3])


def test_atoms_without_a_name_are_named(records):
    species = dataclasses.replace(records.species, values=records.species.values.copy())
    species[1][0] = 0
    nameless = dataclasses.replace(records, species=species)
    with pytest.raises(DatasetError, match=f"which {records.material_id[1]} does not name"):
        fit_free_targets(nameless, ("nearest_element",), 5)
    fit_free_targets(nameless, ("invariants",), 5)


def test_validation_records_without_names_are_masked(records, fitted):
    """One that has no atoms, and one whose atoms have no names."""
    size = records.species.size.copy()
    size[0] = 0
    species = dataclasses.replace(records.species, size=size)
    known = fitted.known(dataclasses.replace(records, species=species))
    np.testing.assert_array_equal(known[:, :2], np.repeat(size[:, None] > 0, 2, axis=1))
    assert known[:, 2].all()
    record = dict(records.source[records.rows[0]])
    for none in (np.zeros(0, np.int32), np.zeros_like(record["species"])):
        assert np.isfinite(fitted.voxels(record | {"species": none})).all()


def test_a_validation_fold_that_judges_nothing_is_refused(records, fitted):
    none = AverageAtoms(fitted.atoms.numbers[:0], fitted.atoms.coefficients[:0])
    fewer = dataclasses.replace(fitted, names=("deformation",), atoms=none)
    symbol = chemical_symbols[min(records.species.values)]
    with pytest.raises(DatasetError, match=rf"judged by deformation: .*\({symbol}, "):
        fewer.check_known(records)
    fitted.check_known(records)


def test_what_is_constant_in_training_stays_finite(records):
    source = [
        dict(records.source[row]) | {"species": np.full(len(species), 14)}
        for row, species in zip(records.rows[:2], records.species)
    ]
    same = dataclasses.replace(
        records, source=source, rows=np.arange(2), species=[one["species"] for one in source]
    )
    fitted = fit_free_targets(same, ("nearest_element",), 5)
    assert not fitted.voxels(source[0]).any()
    other = source[0] | {"species": np.full_like(source[0]["species"], 55)}
    assert 1 < np.abs(fitted.voxels(other)).max() < 100
