import tempfile

import numpy as np
import pytest
from ase import Atoms
from ase.io.cube import read_cube as ase_read_cube
from ase.io.cube import write_cube
from ase.units import Bohr
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.common import VolumetricData

from densityjax.density.formats.unit import stated_units
from densityjax.density.reader import DensityFormatError, read_density, read_density_bytes

CELL = [[4.0, 0.1, 0], [-1, 5.0, 0.3], [0.2, 0, 6.0]]
ATOMS = Atoms("FeO2", cell=CELL, pbc=True, scaled_positions=[[0, 0, 0], [0.1, 0.2, 0.3], [0.5] * 3])
SHAPE = (3, 4, 5)


@pytest.fixture(scope="module")
def field():
    """[X, Y, Z] e/Å^3, 24 electrons."""
    values = np.random.default_rng(0).random(SHAPE) + 0.2
    return values * 24 / (values.mean() * ATOMS.get_volume())


def written(field, origin=None):
    """What ASE writes, in e/Bohr^3."""
    with tempfile.TemporaryFile("w+") as file:
        write_cube(file, ATOMS, data=field * Bohr**3, origin=origin)
        file.seek(0)
        return file.read()


def test_what_ase_writes(field, tmp_path):
    path = tmp_path / "rho.txt"  # the content decides, not the name
    path.write_text(written(field))
    density = read_density(path)
    with open(path) as file:
        expected = ase_read_cube(file)
    np.testing.assert_allclose(density.values, expected["data"] / Bohr**3, rtol=1e-12)
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    np.testing.assert_allclose(density.lattice, expected["atoms"].cell[:], rtol=1e-9)
    np.testing.assert_allclose(
        density.positions, expected["atoms"].get_scaled_positions(), atol=1e-9
    )
    assert density.species.tolist() == [26, 8, 8]
    assert density.num_electrons == pytest.approx(24, rel=1e-5)
    assert (density.magnetization, density.notes) == (None, ())


def test_positions_count_from_the_origin(field):
    moved = read_density_bytes(written(field, origin=[0.5, 0, 0]).encode(), "x")
    expected = Atoms(ATOMS, cell=CELL)
    expected.translate([-0.5, 0, 0])
    np.testing.assert_allclose(moved.positions, expected.get_scaled_positions(), atol=1e-5)


@pytest.mark.parametrize(
    ("unit", "factor"), [("e/Å^3", 1.0), ("rho * V_cell", ATOMS.get_volume())]
)
def test_other_units_are_found_by_counting_electrons(field, unit, factor):
    text = written(field * factor / Bohr**3)
    density = read_density_bytes(text.encode(), "x")
    assert density.num_electrons == pytest.approx(24, rel=1e-4)
    assert f"taken as {unit}" in density.notes[0]


def test_a_count_that_no_unit_explains_is_noted(field):
    density = read_density_bytes(written(field * 3.3333).encode(), "x")
    assert density.num_electrons == pytest.approx(80, rel=1e-4)
    assert "holds more electrons than the atoms have" in density.notes[0]


def test_what_pymatgen_writes(field, tmp_path):
    structure = AseAtomsAdaptor.get_structure(ATOMS)
    VolumetricData(structure, {"total": field * Bohr**3}).to_cube(tmp_path / "x.cube")
    density = read_density(tmp_path / "x.cube")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    assert density.formula == "FeO2"


def several(text, negative, values):
    """The same cube with `values` values for each voxel, of which the first is the original."""
    lines = text.splitlines()
    head, body = lines[:9], lines[9:]
    words = head[2].split()
    if negative:
        head[2] = " ".join(["-" + words[0], *words[1:]])
        head += [f"{values} 1 2", "3 4 5 6 7 8 9 10"[: max(0, 2 * (values - 2) - 1)]]
    else:
        head[2] += f" {values}"
    body = [f"{number} " + "-7.0 " * (values - 1) for number in " ".join(body).split()]
    return "\n".join(head + body) + "\n"


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("values", [2, 5])
def test_the_first_of_several_values_is_taken(field, negative, values):
    density = read_density_bytes(several(written(field), negative, values).encode(), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    assert f"{values} values for each voxel" in density.notes[0]


def test_negative_atom_count_with_one_value(field):
    text = several(written(field), True, 2).replace("2 1 2", "1 101")
    text = text.replace("-7.0", "")
    np.testing.assert_allclose(read_density_bytes(text.encode(), "x").values, field, rtol=1e-5)


def test_negative_voxel_counts_mean_angstrom(field):
    lines = written(field).splitlines()
    for row in (3, 4, 5):
        n, *edge = lines[row].split()
        lines[row] = " ".join([f"-{n}", *(f"{float(x) * Bohr:.9f}" for x in edge)])
    for row in (6, 7, 8):
        z, charge, *place = lines[row].split()
        lines[row] = " ".join([z, charge, *(f"{float(x) * Bohr:.9f}" for x in place)])
    density = read_density_bytes("\n".join(lines).encode(), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    np.testing.assert_allclose(density.lattice, CELL, atol=1e-5)
    np.testing.assert_allclose(density.positions, ATOMS.get_scaled_positions(), atol=1e-5)


def test_castep_repeats_the_first_voxels(field):
    padded = np.pad(field, [(0, 1)] * 3, mode="wrap")
    lines = written(padded).splitlines()
    lines[1] = "OUTER LOOP: X, MIDDLE LOOP: Y, INNER LOOP: Z castep2cube"
    for row, n in zip((3, 4, 5), SHAPE):  # ASE divided the cell by the larger number
        words = lines[row].split()
        edge = [f"{float(x) * (n + 1) / n:.9f}" for x in words[1:]]
        lines[row] = " ".join([words[0], *edge])
    lines[1] = "from castep2cube"
    density = read_density_bytes("\n".join(lines).encode(), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    np.testing.assert_allclose(density.lattice, CELL, atol=1e-4)


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (3, "-3 0 0 0 0 0", "expected numbers of voxels of one sign"),
        (3, "3 0.1 0.2", "line 6: expected the number of voxels along an axis"),
        (3, "99999999 0.0001 0 0", "the limit of this reader"),
        (3, "3 0.0 0 0", "expected three independent cell vectors"),
        (2, "-3 0.0 0 0 2", "line 10: expected the number of values"),
        (2, "900 0.0 0 0", "more than the file has room for"),
        (2, "4 0.0 0 0", "line 10: expected one of 4 atoms"),
        (6, "999 0 0 0 0", "atomic numbers from 1 to 118"),
        (9, "1e-2 1e-2", "the grid of (3, 4, 5): expected 60 numbers, after them found"),
        (9, "", "the grid of (3, 4, 5): expected 60 numbers, after 59 the file ends"),
        (9, "******", "after 0 found '******"),
        (9, "nan", "holds NaN or infinity, the first at number 1"),
        (9, "-99", "expected a positive number"),
        (1, "OUTER LOOP: Z, MIDDLE LOOP: Y, INNER LOOP: X", "the order of a cube"),
    ],
)
def test_a_bad_cube_is_named_with_what_was_expected(field, line, new, message):
    lines = written(field).splitlines()
    lines[line] = new
    with pytest.raises(DensityFormatError) as error:
        read_density_bytes("\n".join(lines).encode(), "bad.cube")
    assert str(error.value).startswith("bad.cube")
    assert message in str(error.value)


def abacus(field, spins, charges=(16, 6, 6)):
    """As ABACUS documents it (out_chg): blanks in the title, whole zeros, valence charges."""
    lines = written(field).splitlines()
    lines[:2] = ["STEP: 0  Cubefile created from ABACUS. Inner loop is z, followed by y and x",
                 f"{spins} (nspin) 0.914047 (fermi energy, in Ry)"]
    for row, charge in zip((6, 7, 8), charges):
        words = lines[row].split()
        lines[row] = " ".join([words[0], str(charge), *words[2:]])
    return "\n".join(lines).encode()


def test_what_abacus_writes(field):
    field = field * 28 / 24
    density = read_density_bytes(abacus(field, 1), "SPIN1_CHG.cube")
    assert (density.notes, density.stated_spins) == ((), 1)
    assert density.num_electrons == pytest.approx(28, rel=1e-5)
    notes = read_density_bytes(abacus(field * 0.5, 2), "SPIN1_CHG.cube").notes
    assert "the file states two spins (nspin 2) and holds one of them" in notes[0]
    assert "valence charges of 28 electrons and its density holds 14" in notes[1]
    new = abacus(field * 0.5, 2).replace(  # as of version 3.10
        b"2 (nspin) 0.914047 (f", b"2 # number of spin directions 0.914047 # F")
    assert read_density_bytes(new, "chgs1.cube").notes == notes


def test_whole_zeros_in_the_header(field):
    cell = np.diag([4.0, 5, 6])
    lines = written(field).splitlines()
    for row, n, edge in zip((3, 4, 5), SHAPE, cell / np.array(SHAPE)[:, None] / Bohr):
        lines[row] = " ".join([str(n), *(f"{x:.6f}" if x else "0" for x in edge)])
    density = read_density_bytes("\n".join(lines).encode(), "x")
    np.testing.assert_allclose(density.lattice, cell, atol=1e-4)


@pytest.mark.parametrize(
    ("title", "stated"),
    [
        ("Total charge density, e/Ang^3", ("", "e/Å^3")), ("rho in 1/Å**3", ("", "e/Å^3")),
        ("electrons per bohr^3", ("", "e/Bohr^3")), ("units: coords = b, function = b^-3",
                                                     ("Bohr", "e/Bohr^3")),
        ("units: coords = A, function = A^(-3)", ("Å", "e/Å^3")),
        ("#Atomic coordinates in Angstroms", ("Å", "")), ("lengths in bohr", ("Bohr", "")),
        ("Cube file for Si2 generated by Pymatgen", ("", "")), ("a density", ("", "")),
        ("Aba3 b3lyp B3LYP/6-31G", ("", "")),
    ],
)
def test_units_that_a_title_states(title, stated):
    assert stated_units(title) == stated


def test_stated_density_unit_is_taken(field):
    text = written(field / Bohr**3).replace("\n", " in e/Angstrom^3\n", 1)
    density = read_density_bytes(text.encode(), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    assert density.notes == ()


@pytest.mark.parametrize("number", ["0", "-8", "-1"])
def test_ghosts_are_left_out(field, number):
    lines = written(field).splitlines()
    lines[2] = lines[2].replace("3", "4", 1)
    lines.insert(9, f"{number} 0.0 1.0 1.0 1.0")
    density = read_density_bytes("\n".join(lines).encode(), "x")
    assert density.formula == "FeO2"
    assert len(density.positions) == 3
    assert density.notes == (
        "1 of 4 atoms are ghosts (of number 0 or below), they are left out",
    )


def test_a_stated_unit_of_length_beats_the_sign():
    """Argon: both units of length leave it atoms that are far enough from each other."""
    cell = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 5.26 / 2
    argon = Atoms("Ar", cell=cell, pbc=True)
    values = np.random.default_rng(0).random(SHAPE) + 0.2
    values *= 8 / (values.mean() * argon.get_volume())
    with tempfile.TemporaryFile("w+") as file:
        write_cube(file, argon, data=values * Bohr**3, comment="rho, coords = b")
        file.seek(0)
        lines = file.read().splitlines()
    for row in (3, 4, 5):
        lines[row] = "-" + lines[row].strip()
    density = read_density_bytes("\n".join(lines).encode(), "x")
    np.testing.assert_allclose(density.lattice, cell, atol=1e-4)
    assert density.num_electrons == pytest.approx(8, rel=1e-4)
    assert "lengths are in Bohr, as the title says" in density.notes[0]
