import dataclasses
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import write_cube
from ase.units import Bohr
from pymatgen.core import DummySpecies, Structure
from pymatgen.io.common import VolumetricData
from pymatgen.io.vasp.outputs import Chgcar, Elfcar, Locpot

from densityjax.density.density import DensityFormatError
from densityjax.density.reader import read_density
from densityjax.prediction.materials import Material
from densityjax.prediction.objects import density_of, material_of, name_of

SHIPPED = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"
FIELDS = ("values", "magnetization", "lattice", "species", "positions")


@pytest.fixture(scope="module")
def spin_file(tmp_path_factory) -> Path:
    """A plain CHGCAR with magnetisation, with the augmentation of a VASP file at its end."""
    with tarfile.open(SHIPPED) as archive:
        for member in archive.getmembers():
            if "CHGCAR" not in member.name or member.size > 150_000:
                continue
            text = lzma.decompress(archive.extractfile(member).read())
            path = tmp_path_factory.mktemp("spin") / "CHGCAR"
            path.write_bytes(text)
            if read_density(path).magnetization is not None:
                return path
    raise AssertionError("no small density with spin")


@pytest.fixture(scope="module")
def read(spin_file):
    return read_density(spin_file)


def agree(found, expected, **tolerance) -> None:
    for name in FIELDS:
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(a, b, err_msg=name, **(tolerance or {"rtol": 1e-9}))


def cube_of(read, path: Path, factor: float) -> VolumetricData:
    """What pymatgen reads of the cube file that ASE writes, whose values are times `factor`."""
    atoms = Atoms(read.species, scaled_positions=read.positions, cell=read.lattice, pbc=True)
    with path.open("w") as file:
        write_cube(file, atoms, data=read.values * factor)
    return VolumetricData.from_cube(path)


def test_pymatgen_and_ase_read_the_same(spin_file, read):
    agree(density_of(Chgcar.from_file(spin_file), "Chgcar"), read)
    ase = VaspChargeDensity(str(spin_file))
    pair = (ase.atoms[0], np.stack([ase.chg[0], ase.chgdiff[0]], axis=-1))
    found = density_of(pair, "Atoms")
    agree(found, read, rtol=1e-7, atol=1e-9)
    assert any("which code made" in note for note in found.notes)
    found = density_of((ase.atoms[0], ase.chg[0]), "Atoms")
    assert found.magnetization is None
    agree(density_of(read, read.source), read)


def test_augmentation_tells_the_code(spin_file):
    chgcar = Chgcar.from_file(spin_file)
    assert density_of(chgcar, "Chgcar").code == "unknown"
    for augmentation in ({1: np.zeros(8)}, np.zeros(8), ["augmentation occupancies 1 8"]):
        chgcar.data_aug = {"total": augmentation}
        assert density_of(chgcar, "Chgcar").code == "VASP"


def test_non_collinear_moments_are_lengths(spin_file, read):
    chgcar = Chgcar.from_file(spin_file)
    moment = chgcar.data.pop("diff")
    chgcar.data |= {"diff_x": 0.6 * moment, "diff_y": -0.8 * moment, "diff_z": 0 * moment}
    agree(density_of(chgcar, "Chgcar"), dataclasses.replace(
        read, magnetization=abs(read.magnetization)
    ))


@pytest.mark.parametrize("name", ["e/Bohr^3", "e/Å^3", "rho * V_cell"])
def test_electrons_tell_the_unit_of_volumetric_data(read, tmp_path, name):
    factor = {"e/Bohr^3": Bohr**3, "e/Å^3": 1.0, "rho * V_cell": read.volume}[name]
    found = density_of(cube_of(read, tmp_path / "x.cube", factor), "VolumetricData")
    agree(found, dataclasses.replace(read, magnetization=None), rtol=2e-5, atol=2e-5)
    assert found.notes[0].startswith(f"taken as {name}, in which it holds ")


def test_volumetric_data_of_no_unit_is_refused(read, tmp_path):
    with pytest.raises(DensityFormatError, match="its unit is not stated, and neither"):
        density_of(cube_of(read, tmp_path / "x.cube", 0.7 * Bohr**3), "VolumetricData")
    magnesium = Structure(4 * np.eye(3), ["Mg"], [[0, 0, 0]])
    two = np.full((4, 4, 4), 2.0)
    magnesium.scale_lattice(5.0)  # 2 as rho * V_cell, 10 as e/Å^3
    with pytest.raises(DensityFormatError, match=r"e/Å\^3 \(10\) and rho \* V_cell \(2\) all give"):
        density_of(VolumetricData(magnesium, {"total": two}), "VolumetricData")


def test_an_array_in_another_unit_is_noted(read):
    """As of ASE's `read_cube_data`, which converts nothing."""
    atoms = Atoms(read.species, scaled_positions=read.positions, cell=read.lattice, pbc=True)
    found = density_of((atoms, read.values * Bohr**3), "Atoms")
    agree(found, dataclasses.replace(read, magnetization=None), rtol=1e-9)
    assert found.notes[0].startswith("taken as e/Bohr^3")


def test_objects_are_not_changed(spin_file, read):
    chgcar = Chgcar.from_file(spin_file)
    kept = {name: array.copy() for name, array in chgcar.data.items()}
    density_of(chgcar, "Chgcar")
    assert all(np.array_equal(chgcar.data[name], array) for name, array in kept.items())
    pair = Atoms(read.species, positions=read.positions, cell=read.lattice), read.values.copy()
    density_of(pair, "Atoms")
    assert np.array_equal(pair[1], read.values)
    assert any("not periodic" in note for note in density_of(pair, "Atoms").notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.astype(complex), "real numbers, found the type complex128"),
        (lambda a: a.astype(str), "real numbers, found the type <U"),
        (lambda a: a[0], r"expected an array \[X, Y, Z\]"),
        (lambda a: np.stack([a, a, a, a], -1), r"expected an array \[X, Y, Z\]"),
        (lambda a: np.where(a == a.max(), np.nan, a), "NaN or infinity"),
        (lambda a: -a, "integrates to -"),
        (lambda a: a[:0], "three positive grid dimensions"),
        (lambda a: [[1.0], [1.0, 2.0]], "expected an array of numbers"),
    ],
)
def test_no_density_is_refused(read, change, message):
    atoms = Atoms(read.species, scaled_positions=read.positions, cell=read.lattice, pbc=True)
    with pytest.raises(DensityFormatError, match=f"^here: .*{message}"):
        density_of((atoms, change(read.values)), "here")


def test_cells_that_are_none_are_refused(read):
    with pytest.raises(DensityFormatError, match="three independent cell vectors"):
        density_of((Atoms("Fe"), read.values), "here")
    for field, value in {
        "lattice": np.eye(2), "magnetization": read.values[1:], "values": read.values[0],
        "positions": read.positions[:1], "species": np.full(len(read.species), 200),
    }.items():
        with pytest.raises(DensityFormatError, match=r"^here: "):
            density_of(dataclasses.replace(read, **{field: value}), "here")
    sites = Structure(3 * np.eye(3), [{"Fe": 0.5}], [[0, 0, 0]])
    with pytest.raises(DensityFormatError, match="one whole atom on each site"):
        density_of(VolumetricData(sites, {"total": np.ones((4, 4, 4))}), "here")


def test_what_a_pymatgen_object_may_hold_instead(spin_file):
    chgcar = Chgcar.from_file(spin_file)
    for kind, held in ((Locpot, "a potential"), (Elfcar, "localisation function")):
        with pytest.raises(DensityFormatError, match=held):
            density_of(kind(chgcar.poscar, dict(chgcar.data)), "here")
    with pytest.raises(DensityFormatError, match="expected data 'total'"):
        density_of(Chgcar(chgcar.structure, {"spin_up": chgcar.data["total"]}), "here")
    chgcar.structure.replace_species({chgcar.structure[0].specie.symbol: DummySpecies("X")})
    found = density_of(Chgcar(chgcar.structure, {"total": chgcar.data["total"]}), "here")
    assert found.notes == ("the file does not name all its elements, they are written X",)


def test_what_is_no_density_is_named(read):
    for x, name in ((3, "int"), ((read, 1), "tuple of Density, int"), (None, "NoneType")):
        found = material_of(x, 24, name_of(x, 2))
        assert isinstance(found, str)
        assert found.startswith(f"{type(x).__name__} [2]: expected a path, a pymatgen Chgcar")
        assert found.endswith(f"found {name}")
    pair = Structure(3 * np.eye(3), ["Fe"], [[0, 0, 0]]), read.values
    found = material_of(pair, 24, name_of(pair))
    assert found.startswith("Structure: expected a path")
    assert found.endswith("found tuple of Structure, ndarray")
    assert isinstance(material_of(read, 24, name_of(read)), Material)
