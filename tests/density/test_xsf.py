import io

import numpy as np
import pytest
from ase.build import molecule
from ase.io.xsf import read_xsf as ase_read_xsf
from ase.io.xsf import write_xsf
from ase.units import Bohr

from densityjax.density.reader import DensityFormatError, read_density, read_density_bytes
from tests.density.test_cube import ATOMS, CELL, SHAPE, field  # noqa: F401  a fixture


def general(field):  # noqa: F811
    """A general grid in e/Bohr^3, as Quantum ESPRESSO has it: the first planes repeated."""
    rows = [" ".join(f"{x:.9f}" for x in row) for row in CELL]
    atoms = [
        f"{symbol} {' '.join(f'{x:.9f}' for x in place)}"
        for symbol, place in zip(ATOMS.get_chemical_symbols(), ATOMS.positions)
    ]
    values = np.pad(field * Bohr**3, [(0, 1)] * 3, mode="wrap")
    return "\n".join([
        "# a comment", "", "CRYSTAL", "PRIMVEC", *rows, "CONVVEC", *rows, "PRIMCOORD", "3 1",
        *atoms,
        "BEGIN_BLOCK_DATAGRID_3D", "3D_PWSCF", "DATAGRID_3D_UNKNOWN",
        " ".join(map(str, values.shape)), "0 0 0", *rows,
        *(f"{x:.6E}" for x in values.ravel(order="F")),
        "END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D", "",
    ])


def test_general_grids_repeat_their_first_planes(field, tmp_path):  # noqa: F811
    (tmp_path / "rho").write_text(general(field))
    density = read_density(tmp_path / "rho")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    np.testing.assert_allclose(density.lattice, CELL, rtol=1e-9)
    np.testing.assert_allclose(density.positions, ATOMS.get_scaled_positions(), atol=1e-7)
    assert density.species.tolist() == [26, 8, 8]
    assert density.num_electrons == pytest.approx(24, rel=1e-5)
    assert density.notes == ()


def test_what_ase_writes(field):  # noqa: F811
    """In e/Å^3, which only the electrons tell, and without repeated planes."""
    text = io.StringIO()
    write_xsf(text, [ATOMS], data=field)
    density = read_density_bytes(text.getvalue().encode(), "x")
    text.seek(0)
    expected, _, _, atoms = ase_read_xsf(text, read_data=True)
    np.testing.assert_allclose(density.values, expected, rtol=1e-12)
    np.testing.assert_allclose(density.lattice, atoms.cell[:], rtol=1e-9)
    np.testing.assert_allclose(density.positions, atoms.get_scaled_positions(), atol=1e-7)
    assert "taken as e/Å^3" in density.notes[0]
    assert density.values.shape == SHAPE


def test_planes_that_do_not_repeat_are_kept(field):  # noqa: F811
    last = np.pad(field * Bohr**3, [(0, 1)] * 3, mode="wrap")[-1, -1, -1]
    text = general(field).replace(f"{last:.6E}\nEND", "9.000000E+00\nEND")
    density = read_density_bytes(text.encode(), "x")
    assert density.values.shape == tuple(n + 1 for n in SHAPE)
    assert "do not repeat" in density.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CRYSTAL", "MOLECULE", "line 3: expected one periodic structure"),
        ("3 1\n", "9999 1\n", "a number of atoms that the file has room for"),
        ("Fe 0", "Zz 0", "an element's symbol or number"),
        ("4 5 6\n", "4 5 7\n", "after 120 found 'END_DATAGRID"),
        ("4 5 6\n", "4 5 5\n", "expected 100 numbers and END_DATAGRID_3D, found"),
        ("4 5 6\n", "4 5\n", "three numbers of points"),
        ("4 5 6\n", "40000 50000 60000\n", "the limit of this reader"),
        ("PRIMCOORD", "SOMETHING", "PRIMVEC and PRIMCOORD before the grid"),
        ("0 0 0\n4.0", "0 0 0\n5.0", "expected a grid that spans the cell"),
        ("BEGIN_BLOCK_DATAGRID_3D", "x", "the end of the file"),
    ],
)
def test_a_bad_file_is_named_with_what_was_expected(field, old, new, message):  # noqa: F811
    text = general(field)
    assert old in text
    with pytest.raises(DensityFormatError) as error:
        read_density_bytes(text.replace(old, new, 1).encode(), "bad.xsf")
    assert str(error.value).startswith("bad.xsf")
    assert message in str(error.value)


def test_lengths_in_bohr_as_octopus_states_them(field):  # noqa: F811
    """Lengths of the structure and of the grid in Bohr; and those of the grid alone."""
    def in_bohr(text, start, stop):
        lines = text.splitlines()
        for row in range(start, stop):
            words = lines[row].split()
            if len(words) in (3, 4) and "." in words[-1]:
                last = [f"{float(x) / Bohr:.9f}" for x in words[-3:]]
                lines[row] = " ".join([*words[:-3], *last])
        return "\n".join(lines).replace("3D_PWSCF", "units: coords = b, function = b^-3")

    text = general(field)
    begin = text.splitlines().index("BEGIN_BLOCK_DATAGRID_3D")
    for start in (0, begin):
        density = read_density_bytes(in_bohr(text, start, begin + 8).encode(), "x")
        np.testing.assert_allclose(density.lattice, CELL, atol=1e-6)
        np.testing.assert_allclose(density.values, field, rtol=1e-5)
        np.testing.assert_allclose(density.positions, ATOMS.get_scaled_positions(), atol=1e-7)
        assert density.notes == ("lengths are in Bohr, as the grid's title says",)


def two_grids(field, first, second, share):  # noqa: F811
    head, grid = general(field).split("DATAGRID_3D_UNKNOWN\n")
    grid, tail = grid.split("END_DATAGRID_3D\n")
    lines = grid.splitlines()
    scaled = [lines[:5] + [f"{float(x) * s:.7E}" for x in lines[5:]] for s in (share, 1 - share)]
    parts = [
        "\n".join([f"BEGIN_DATAGRID_3D_{name}", *part, "END_DATAGRID_3D", ""])
        for name, part in zip((first, second), scaled)
    ]
    return (head + "".join(parts) + tail).encode()


@pytest.mark.parametrize(
    "names",
    [("rho:spin_1", "rho:spin_2"), ("spin_up", "spin_down"), ("UP", "DN"), ("alpha", "beta"),
     ("charge_up", "charge_down")],
)
def test_grids_of_two_spins_are_added(field, names):  # noqa: F811
    density = read_density_bytes(two_grids(field, *names, 0.75), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    np.testing.assert_allclose(density.magnetization, field / 2, rtol=1e-5)
    assert density.notes == ("the grids of both spins are added, their difference is kept",)


def test_a_spin_density_beside_the_density_is_the_magnetisation(field):  # noqa: F811
    density = read_density_bytes(two_grids(field, "rho", "magnetization", 0.8), "x")
    np.testing.assert_allclose(density.values, 0.8 * field, rtol=1e-5)
    np.testing.assert_allclose(density.magnetization, 0.2 * field, rtol=1e-5)
    assert "a spin density, is kept as the magnetisation" in density.notes[0]


def test_four_grids_are_a_density_matrix_of_two_spins(field):  # noqa: F811
    """Up, down, and real and imaginary part of up-down: |m| does not change with the axis."""
    text = two_grids(field, "rho:spin_1", "rho:spin_2", 0.75).decode()
    start, end = text.index("BEGIN_DATAGRID_3D_rho:spin_2"), text.index("END_BLOCK")
    second = text[start:end]  # a quarter of the density
    more = [second.replace("spin_2", name) for name in ("spin_3", "spin_4")]
    density = read_density_bytes((text[:end] + "".join(more) + text[end:]).encode(), "x")
    np.testing.assert_allclose(density.values, field, rtol=1e-5)
    # mx = my = 2 / 4, mz = 3 / 4 - 1 / 4 of the density
    np.testing.assert_allclose(density.magnetization, np.sqrt(3) / 2 * field, rtol=1e-5)


def test_three_grids_of_spins_are_told(field):  # noqa: F811
    text = two_grids(field, "rho:spin_1", "rho:spin_2", 0.75).decode()
    start, end = text.index("BEGIN_DATAGRID_3D_rho:spin_2"), text.index("END_BLOCK")
    third = text[start:end].replace("spin_2", "spin_3")
    density = read_density_bytes((text[:end] + third + text[end:]).encode(), "x")
    np.testing.assert_allclose(density.values, 0.75 * field, rtol=1e-5)
    assert any("3 grids, the first is taken" in note for note in density.notes)


@pytest.mark.parametrize("word", ["0", "X", "Bq", "-8", "Xx"])
def test_ghosts_are_left_out(field, word):  # noqa: F811
    text = general(field).replace("3 1\n", f"4 1\n{word} 0.5 0.5 0.5\n", 1)
    density = read_density_bytes(text.encode(), "x")
    assert density.species.tolist() == [26, 8, 8]
    np.testing.assert_allclose(density.positions, ATOMS.get_scaled_positions(), atol=1e-7)
    assert density.notes == (
        "1 of 4 atoms are ghosts (of number 0 or below), they are left out",
    )


@pytest.mark.parametrize("symbols", ["H2O", "N2"])
@pytest.mark.parametrize("doubled", [True, False])
def test_planes_of_nothing_are_told_by_the_electrons(symbols, doubled):
    """Of H2O (15 / 14)^3 makes ten electrons of eight, as many as it has in all."""
    atoms = molecule(symbols, vacuum=4.0, pbc=True)
    valence = {"H": 1, "O": 6, "N": 5}
    electrons = sum(valence[symbol] for symbol in atoms.get_chemical_symbols())
    axes = np.meshgrid(*[np.arange(14) / 14 - 0.5] * 3, indexing="ij")
    values = np.exp(-80 * sum(axis**2 for axis in axes))
    values *= electrons / (values.mean() * atoms.get_volume())
    rows = [" ".join(f"{x:.9f}" for x in row) for row in atoms.cell]
    shown = np.pad(values, [(0, 1)] * 3, mode="wrap") if doubled else values
    text = "\n".join([
        "CRYSTAL", "PRIMVEC", *rows, "PRIMCOORD", f"{len(atoms)} 1",
        *(f"{z} {x:.9f} {y:.9f} {w:.9f}" for z, (x, y, w) in zip(atoms.numbers, atoms.positions)),
        "BEGIN_BLOCK_DATAGRID_3D", "d", "DATAGRID_3D_UNKNOWN", " ".join(map(str, shown.shape)),
        "0 0 0", *rows, *(f"{x * Bohr**3:.6E}" for x in shown.ravel(order="F")),
        "END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D", "",
    ])
    density = read_density_bytes(text.encode(), "x")
    assert density.values.shape == (14,) * 3
    assert density.num_electrons == pytest.approx(electrons, rel=1e-4)
    assert len(density.notes) == (0 if doubled else 2)


def test_other_grids_are_told(field):  # noqa: F811
    density = read_density_bytes(two_grids(field, "rho", "potential", 0.5), "x")
    np.testing.assert_allclose(density.values, field / 2, rtol=1e-5)
    assert density.magnetization is None
    assert "2 grids, the first is taken and the others are left out" in density.notes[0]


def test_two_files_in_one_are_told(field):  # noqa: F811
    with pytest.raises(DensityFormatError, match="two files in one, split them"):
        read_density_bytes((general(field) + general(field)).encode(), "x")


def test_the_name_of_a_block_may_be_in_any_encoding(field):  # noqa: F811
    data = general(field).encode()
    name = data.split(b"\n")[[b"BEGIN_BLOCK" in line for line in data.split(b"\n")].index(True) + 1]
    expected = read_density_bytes(data, "x")
    for other in ("Größe".encode("latin1"), "密度".encode("gbk"), b""):
        found = read_density_bytes(data.replace(name + b"\n", other + b"\n", 1), "x")
        np.testing.assert_array_equal(found.values, expected.values)
