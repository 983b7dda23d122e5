"""VASP files beyond what tests/density/test_reader.py has: other writers, VASP 4, samples."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.vasp import VaspChargeDensity
from pymatgen.core import Structure
from pymatgen.io.vasp.outputs import Chgcar

from densityjax.density.reader import DensityFormatError, read_density, read_density_bytes
from tests.density.test_reader import chgcar

SAMPLES = Path("/work/shared/data/vasp_samples")
SHAPE = (4, 5, 6)


@pytest.fixture(scope="module")
def density():
    """pymatgen's object of an oblique cell, with a field that is positive and without symmetry."""
    lattice = [[4.1, 0.1, 0], [-1, 5.2, 0.3], [0.2, 0, 6.3]]
    structure = Structure(lattice, ["Fe", "O", "O"], [[0, 0, 0], [0.1, 0.2, 0.3], [0.5, 0.7, 0.9]])
    charge, *spin = np.random.default_rng(0).random((4, *SHAPE))
    return structure, 5 + charge, [component - 0.5 for component in spin]


@pytest.mark.parametrize("vasp4", [False, True])
@pytest.mark.parametrize("spins", [0, 1, 3])
def test_what_pymatgen_writes(density, tmp_path, vasp4, spins):
    structure, total, diff = density
    names = {0: (), 1: ("diff",), 3: ("diff_x", "diff_y", "diff_z")}[spins]
    data = {"total": total} | dict(zip(names, diff))
    if spins == 3:
        data["diff"] = diff[0]
    path = tmp_path / "CHGCAR"
    Chgcar(structure, data).write_file(path, vasp4_compatible=vasp4)
    found = read_density(path)
    np.testing.assert_allclose(found.values * structure.volume, total, rtol=1e-9)
    np.testing.assert_allclose(found.lattice, structure.lattice.matrix, atol=1e-6)
    np.testing.assert_allclose(found.positions, structure.frac_coords, atol=1e-6)
    # pymatgen's VASP 4 header has no elements at all.
    assert found.species.tolist() == ([0, 0, 0] if vasp4 else [26, 8, 8])
    if spins == 1:
        np.testing.assert_allclose(found.magnetization * structure.volume, diff[0], atol=1e-9)
    elif spins == 3:
        norm = np.sqrt(sum(m**2 for m in diff))
        np.testing.assert_allclose(found.magnetization * structure.volume, norm, atol=1e-9)


def test_what_ase_writes(density, tmp_path):
    structure, total, _ = density
    written = VaspChargeDensity(None)
    written.atoms.append(structure.to_ase_atoms())
    written.chg.append(total)
    written.write(str(tmp_path / "CHG"), format="chg")  # 10 numbers a line, fewer digits
    found = read_density(tmp_path / "CHG")
    np.testing.assert_allclose(found.values, total, rtol=1e-4)
    assert found.formula == "FeO2"


@pytest.mark.parametrize(
    ("comment", "formula", "note"),
    [
        ("Fe O", "FeO2", "elements are those of the comment line"),
        ("Fe1 O2", "FeO2", "elements are those of the comment line"),
        ("Fe2 O3", "X", "does not name all its elements"),
        ("iron oxide", "X", "does not name all its elements"),
        ("", "X", "does not name all its elements"),
    ],
)
def test_elements_of_vasp_4(comment, formula, note):
    text = chgcar().replace("Fe O\n", "").replace("comment\n", f"{comment}\n")
    density = read_density_bytes(text.encode(), "CHG")
    assert density.formula == formula
    assert density.species.tolist() == ([26, 8, 8] if formula != "X" else [0, 0, 0])
    assert any(note in found for found in density.notes)
    named = read_density_bytes(chgcar().encode(), "CHG")
    np.testing.assert_array_equal(density.values, named.values)
    assert named.notes == ()


def test_fortran_drops_the_e_of_long_exponents():
    text = chgcar(blocks=2)
    tiny = text.replace("1.050000E+02", "0.10500000001-102").replace("2.070000E+02", "-.207000-123")
    tiny = tiny.replace("-.207", "-0.207")
    density, expected = (read_density_bytes(t.encode(), "x") for t in (tiny, text))
    expected.values[1, 2, 0] = 0.0
    expected.magnetization[1, 0, 1] = 0.0
    np.testing.assert_array_equal(density.values, expected.values)
    np.testing.assert_array_equal(abs(density.magnetization), abs(expected.magnetization))


def test_line_ends_of_windows_and_fused_numbers():
    text = chgcar().replace("\n", "\r\n")
    np.testing.assert_array_equal(
        read_density_bytes(text.encode(), "x").values,
        read_density_bytes(chgcar().encode(), "x").values,
    )
    fused = chgcar().replace("1.000000E+02\n1.010000E+02", "0.1E+03-0.2E+01")
    assert read_density_bytes(fused.encode(), "x").values[1, 0, 0] == pytest.approx(-2 / 120)


def test_missing_augmentation_is_noted():
    whole = chgcar(blocks=2, separator="augmentation occupancies 1 1\n 1.0\n" * 3)
    assert "may be cut short" in read_density_bytes(whole.encode(), "x").notes[0]
    whole += "augmentation occupancies 1 1\n 1.0\n" * 3
    assert read_density_bytes(whole.encode(), "x").notes == ()


@pytest.mark.skipif(not SAMPLES.exists(), reason="samples of aiida-vasp are not here")
@pytest.mark.parametrize(
    ("name", "factor"), [("CHGCAR", None), ("CHGCAR.spin", 1), ("CHGCAR.ncl", np.sqrt(3))]
)
def test_samples(name, factor):
    density = read_density(SAMPLES / name)
    expected = np.arange(1.0, 61).reshape((3, 4, 5), order="F") / density.volume
    np.testing.assert_allclose(density.values, expected, rtol=1e-12)
    assert (density.formula, density.code) == ("Ni", "VASP")
    if factor is None:
        assert density.magnetization is None
    else:
        np.testing.assert_allclose(density.magnetization, factor * expected, rtol=1e-12)


WRAPPED = """surface
1.0
4 0 0
1 5 0
0 0.5 6
Ga As
H1.25 Fe_pv/5e0f28cc
1 1 0
2
Direct
0 0 0
0.5 0.5 0.5
0.25 0.25 0.25
0.75 0.75 0.75

1 1 2
240.0 480.0
"""


def test_species_and_counts_may_take_several_lines():
    density = read_density_bytes(WRAPPED.encode(), "x")
    assert density.species.tolist() == [31, 33, 26, 26]
    assert density.num_electrons == pytest.approx(360)
    one = WRAPPED.replace("1 1 0\n2\n", "1 1 2 0\n").replace("Ga As\nH", "Ga As H")
    assert read_density_bytes(one.encode(), "x").species.tolist() == [31, 33, 1, 1]
    old = WRAPPED.replace("Ga As\nH1.25 Fe_pv/5e0f28cc\n", "").replace("surface", "Ga As H Fe")
    assert read_density_bytes(old.encode(), "x").species.tolist() == [31, 33, 26, 26]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("augmentation", ["", "augmentation occupancies 1 2\n 1.0 2.0\n"])
def test_of_several_steps_the_last_is_taken(compress, augmentation):
    first = chgcar(blocks=2, separator=augmentation) + augmentation
    second = first.replace("4 0 0", "8 0 0").replace("comment", "another step")
    density = read_density_bytes(compress((first + second).encode()), "CHG")
    assert density.volume == pytest.approx(240)
    assert density.magnetization.mean() * 240 == pytest.approx(211.5)
    assert "2 structures in the file" in " ".join(density.notes)
    other = second.replace("Fe O", "Co O")
    with pytest.raises(DensityFormatError, match="two files in one, the second starts before"):
        read_density_bytes(compress((first + other).encode()), "CHG")


@pytest.mark.parametrize("augmentation", ["", "augmentation occupancies 1 2\n 1.0 2.0\n"])
@pytest.mark.parametrize(
    "title", ["", "  ", "1 2 3", "2 3 4", "2H-MoS2", "-", "1.5 GPa", "augmentation study", "3"]
)
def test_a_step_is_found_whatever_its_title(title, augmentation):
    """Two spin-polarised steps have four grids: they are no non-collinear density."""
    first = chgcar(blocks=2, separator=augmentation) + augmentation
    second = first.replace("4 0 0", "8 0 0").replace("comment", title, 1)
    for data in ((first + second).encode(), gzip.compress((first + second).encode())):
        density = read_density_bytes(data, "CHG")
        assert density.volume == pytest.approx(240)
        assert density.magnetization.mean() * 240 == pytest.approx(211.5)
        assert "2 structures in the file" in " ".join(density.notes)


def test_what_abacus_writes_as_text_is_named():
    text = chgcar().replace("Fe O", "Fe1 O2")
    text = text.replace("2 3 4\n", "2\n0.9155 (fermi energy)\n2 3 4\n")
    with pytest.raises(DensityFormatError, match=r"give the \.cube file that it writes beside it"):
        read_density_bytes(text.encode(), "SPIN1_CHG")


@pytest.mark.parametrize("names", ["Fe1 O2-", "Fe(1) O*", "Fe:1 O@2", "Fe_pv/ab O_s", "Fe\nO"])
def test_labels_of_elements(names):
    density = read_density_bytes(chgcar().replace("Fe O", names).encode(), "x")
    assert density.species.tolist() == [26, 8, 8]


def test_doubles_of_fortran():
    text = chgcar().replace("E+02", "D+02").replace("1.050000D+02", "1.05000-102").encode()
    expected = read_density_bytes(chgcar().encode(), "x").values
    expected[1, 2, 0] = 0.0
    np.testing.assert_array_equal(read_density_bytes(text, "x").values, expected)
