"""The files of a map, read back by the libraries whose users open them."""

import csv
import json

import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import read_cube
from pymatgen.io.common import VolumetricData
from pymatgen.io.vasp import Chgcar

from densityjax.attribution.explain import Settings, explain, write_explanation
from densityjax.attribution.result import of_atoms
from densityjax.attribution.volumes import write_map_chgcar, write_map_cube
from tests.attribution.conftest import question_of

LATTICE = np.array([[4.0, 0, 0], [-1.0, 3.5, 0], [0.3, 0.2, 5.0]])
SPECIES = np.array([17, 11, 17])
POSITIONS = np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.9, 0.05, 0.75]])


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 6, 6))


def test_a_cube_is_opened_in_place(tmp_path, values):
    path = tmp_path / "k.cube"
    write_map_cube(path, values, LATTICE, SPECIES, POSITIONS, "two\nlines")
    with path.open() as file:
        found = read_cube(file)
    assert found["data"] == pytest.approx(values, rel=1e-5)
    assert found["origin"] == pytest.approx(np.zeros(3))
    assert found["atoms"].cell.array == pytest.approx(LATTICE, abs=1e-4)
    assert found["atoms"].numbers.tolist() == SPECIES.tolist()
    assert found["atoms"].get_scaled_positions() == pytest.approx(POSITIONS, abs=1e-5)
    read = VolumetricData.from_cube(path)
    assert read.data["total"] == pytest.approx(values, rel=1e-5)
    assert read.structure.lattice.matrix == pytest.approx(LATTICE, abs=1e-4)
    assert [site.specie.Z for site in read.structure] == SPECIES.tolist()
    assert read.structure.frac_coords % 1 == pytest.approx(POSITIONS, abs=1e-5)


def test_a_chgcar_is_opened_in_place(tmp_path, values):
    path = tmp_path / "CHGCAR_k"
    write_map_chgcar(path, values, LATTICE, SPECIES, POSITIONS, "comment")
    read = Chgcar.from_file(path)
    assert read.data["total"].mean() == pytest.approx(values.sum(), rel=1e-6)
    assert read.data["total"] / values.size == pytest.approx(values, rel=1e-6, abs=1e-9)
    assert read.structure.lattice.matrix == pytest.approx(LATTICE, abs=1e-5)
    assert sorted(site.specie.Z for site in read.structure) == [11, 17, 17]
    ase = VaspChargeDensity(str(path))
    volume = abs(np.linalg.det(LATTICE))
    assert ase.chg[0] * volume / values.size == pytest.approx(values, rel=1e-5, abs=1e-8)
    assert ase.atoms[0].cell.array == pytest.approx(LATTICE, abs=1e-5)
    where = ase.atoms[0].get_scaled_positions()[list(ase.atoms[0].numbers).index(11)]
    assert where == pytest.approx(POSITIONS[1], abs=1e-6)


@pytest.mark.parametrize("method", ["integrated_gradients", "grad_cam"])
def test_an_explanation_is_five_files_that_agree(seeing_invariants, tmp_path, method):
    question = question_of(seeing_invariants)
    answer = explain(question, Settings(method, steps=4, width=2.0, orders=0))
    cube, chgcar, table, facts, picture = write_explanation(tmp_path, question, answer)
    with cube.open() as file:
        values = read_cube(file)["data"]
    assert values == pytest.approx(answer.found.values, rel=1e-4, abs=1e-6)
    assert Chgcar.from_file(chgcar).data["total"].mean() == pytest.approx(values.sum(), rel=1e-4)
    rows = list(csv.DictReader(table.open()))
    assert [row["element"] for row in rows] == ["Na", "Cl"]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(values.sum(), rel=1e-3)
    electrons = sum(float(row["electrons"]) for row in rows)
    assert electrons == pytest.approx(float(question.material.record["num_electrons"]), rel=1e-5)
    assert rows[0]["answer_share"] == ""
    said = json.loads(facts.read_text())
    assert (said["unit"], said["method"]) == ("GPa", method)
    assert ("completeness_error" in said) == (method == "integrated_gradients")
    assert picture.read_bytes().startswith(b"\x89PNG")
    if method == "grad_cam":
        assert np.abs(values).max() <= 1.001


def test_shares_of_atoms_are_sums_of_a_map():
    weights = np.random.default_rng(1).dirichlet(np.ones(3), size=(4, 4, 4)).transpose(3, 0, 1, 2)
    maps = np.random.default_rng(2).normal(size=(2, 4, 4, 4))
    found = of_atoms(weights, maps)
    assert found.shape == (2, 3)
    assert found.sum(1) == pytest.approx(maps.sum((1, 2, 3)))
    assert found[1, 2] == pytest.approx((maps[1] * weights[2]).sum())
