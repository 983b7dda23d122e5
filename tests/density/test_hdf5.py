import builtins

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp.outputs import Chgcar

from benchmarks import fuzz_density
from densityjax.density.formats import hdf5
from densityjax.density.reader import DensityFormatError, read_density, read_density_bytes

h5py = pytest.importorskip("h5py")
STRUCTURE = Structure(
    [[4.1, 0.1, 0], [-1, 5.2, 0.3], [0.2, 0, 6.3]], ["Fe", "O", "O"],
    [[0, 0, 0], [0.1, 0.2, 0.3], [0.5, 0.7, 0.9]],
)
SHAPE = (4, 5, 6)
FIELDS = 1 + np.random.default_rng(0).random((4, *SHAPE))  # rho * V_cell


@pytest.mark.parametrize("spins", [0, 1, 3])
def test_what_pymatgen_writes(spins, tmp_path):
    names = {0: (), 1: ("diff",), 3: ("diff_x", "diff_y", "diff_z")}[spins]
    data = {"total": FIELDS[0]} | dict(zip(names, FIELDS[1:]))
    if spins == 3:
        data["diff"] = FIELDS[1]
    Chgcar(STRUCTURE, data).to_hdf5(tmp_path / "CHGCAR.h5")
    _check(read_density(tmp_path / "CHGCAR.h5"), spins)
    _check(read_density_bytes((tmp_path / "CHGCAR.h5").read_bytes(), "x"), spins)


def _check(density, spins):
    volume = STRUCTURE.volume
    np.testing.assert_allclose(density.values * volume, FIELDS[0], rtol=1e-12)
    np.testing.assert_allclose(density.lattice, STRUCTURE.lattice.matrix)
    np.testing.assert_allclose(density.positions, STRUCTURE.frac_coords)
    assert density.species.tolist() == [26, 8, 8]
    if spins:
        expected = FIELDS[1] if spins == 1 else np.linalg.norm(FIELDS[1:], axis=0)
        np.testing.assert_allclose(density.magnetization * volume, expected)
    else:
        assert density.magnetization is None


def vaspwave(path, spins):
    """As VASP writes vaspwave.h5: z slowest, and the structure beside it."""
    with h5py.File(path, "w") as file:
        file["charge/grid"] = SHAPE
        file["charge/charge"] = FIELDS[: spins + 1].transpose(0, 3, 2, 1)
        group = file.create_group("structure/positions")
        group["scale"] = 2.0
        group["lattice_vectors"] = STRUCTURE.lattice.matrix / 2
        group["ion_types"] = np.array([b"Fe_pv", b"O "])
        group["number_ion_types"] = [1, 2]
        group["position_ions"] = STRUCTURE.frac_coords
        group["direct_coordinates"] = 1


@pytest.mark.parametrize("spins", [0, 1, 3])
def test_vaspwave(spins, tmp_path):
    vaspwave(tmp_path / "vaspwave.h5", spins)
    _check(read_density(tmp_path / "vaspwave.h5"), spins)


def test_other_and_damaged_files_are_named(tmp_path):
    with h5py.File(tmp_path / "vaspout.h5", "w") as file:
        file["results/energies"] = [1.0]
    with pytest.raises(DensityFormatError, match=r"without a density, it holds results; expected"):
        read_density(tmp_path / "vaspout.h5")
    vaspwave(tmp_path / "vaspwave.h5", 0)
    data = (tmp_path / "vaspwave.h5").read_bytes()
    with pytest.raises(DensityFormatError, match="damaged, cut short or of another kind"):
        read_density_bytes(data[: len(data) // 2], "x")
    with h5py.File(tmp_path / "vaspwave.h5", "a") as file:
        del file["structure"]
    with pytest.raises(DensityFormatError, match="expected the structure at /structure/positions"):
        read_density(tmp_path / "vaspwave.h5")


def test_what_states_numbers_that_it_does_not_store_is_refused(tmp_path):
    vaspwave(tmp_path / "vaspwave.h5", 0)
    with h5py.File(tmp_path / "vaspwave.h5", "a") as file:
        del file["charge/charge"]
        file.create_dataset("charge/charge", (1, 1000, 1000, 1000), "f8", chunks=True)
    with pytest.raises(DensityFormatError, match="states 1000000000 numbers and stores 0 bytes"):
        read_density(tmp_path / "vaspwave.h5")


def test_damaged_files_are_read_or_refused(tmp_path):
    vaspwave(tmp_path / "vaspwave.h5", 1)
    whole = (tmp_path / "vaspwave.h5").read_bytes()
    for number in range(400):
        rng = np.random.default_rng([5, number])
        data = bytearray(whole)
        for at in rng.integers(len(data), size=rng.integers(1, 6)):
            data[at] = rng.integers(256)
        fuzz_density.check(bytes(data), "x")


def test_without_h5py_the_extra_is_named(monkeypatch):
    def without(name, *arguments, **options):
        if name == "h5py":
            raise ImportError(name)
        return original(name, *arguments, **options)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DensityFormatError, match=r"pip install 'densityjax\[hdf5\]'"):
        hdf5.read_hdf5(b"", "x")
