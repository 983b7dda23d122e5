"""Magpie features against matminer's documented values and against labels that ship."""

import csv
import io
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from densityjax.features.composition import (
    MAGPIE_NAMES,
    NAMES,
    PROPERTIES,
    composition_features,
    element_table,
    magpie,
)

ARCHIVE = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"


def _magpie(composition: dict[int, int]) -> dict[str, float]:
    values = magpie(np.array(list(composition)), np.array(list(composition.values())))
    return dict(zip(MAGPIE_NAMES, values, strict=True))


def test_values_that_matminer_documents():
    """Those of Fe2O3 in matminer's own test of its preset."""
    found = _magpie({26: 2, 8: 3})
    expected = {
        "minimum": 8, "maximum": 26, "range": 18, "mean": 15.2, "avg_dev": 8.64, "mode": 8,
    }
    for statistic, value in expected.items():
        assert found[f"MagpieData {statistic} Number"] == pytest.approx(value, abs=1e-5)
    assert len(MAGPIE_NAMES) == 132 == len(set(MAGPIE_NAMES))


def test_a_statistic_computed_by_hand():
    found = _magpie({11: 1, 17: 1})  # NaCl; electronegativities 0.93 and 3.16 (Pauling)
    assert found["MagpieData minimum Electronegativity"] == pytest.approx(0.93)
    assert found["MagpieData mean Electronegativity"] == pytest.approx(2.045)
    assert found["MagpieData avg_dev Electronegativity"] == pytest.approx(1.115)
    assert found["MagpieData mode Number"] == 11  # the smaller of two equally frequent


def test_multiples_and_order_change_nothing():
    lattice = np.diag([3.0, 4.0, 5.0])
    once = composition_features(np.array([8, 26, 8, 26, 8]), lattice)
    doubled = composition_features(np.array([26] * 4 + [8] * 6), lattice * [[2], [1], [1]])
    np.testing.assert_allclose(doubled, once, rtol=1e-6)
    assert once.dtype == np.float32
    assert once.shape == (len(NAMES),)
    assert once[NAMES.index("volume per atom [Å^3]")] == pytest.approx(12.0)


def test_mass_density_is_that_of_the_shipped_labels():
    with tarfile.open(ARCHIVE) as archive:
        text = archive.extractfile("labels.csv").read().decode()
    rows = list(csv.DictReader(io.StringIO(text)))[:200]
    for row in rows:
        composition = Composition(row["formula"])
        scale = int(row["nsites"]) / composition.num_atoms
        species = [e.Z for e, n in composition.items() for _ in range(round(n * scale))]
        cube = np.eye(3) * float(row["volume"]) ** (1 / 3)
        found = composition_features(np.array(species), cube)[-1]
        assert found == pytest.approx(float(row["density"]), rel=2e-3), row["formula"]


@pytest.mark.parametrize("species", [[], [0, 8], [104]])
def test_without_a_known_composition_there_are_no_numbers(species):
    features = composition_features(np.array(species, int), np.eye(3) * 4)
    assert features.shape == (len(NAMES),)
    assert np.isnan(features).all()


def test_every_element_of_the_table_has_features():
    table = element_table()
    assert table.shape == (104, 22)
    assert table[26, PROPERTIES.index("AtomicWeight")] == pytest.approx(55.845)
    for number in range(1, len(table)):
        assert np.isfinite(composition_features(np.array([number]), np.eye(3))).all()


def test_the_table_ships_with_its_citation():
    folder = resources.files("densityjax.features")
    assert "16028" in (folder / "element_properties.bib").read_text()
    assert "Magpie" in (folder / "README.md").read_text()
