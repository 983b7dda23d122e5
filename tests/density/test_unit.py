"""What writers leave in cube and XSF files, of real materials: each is taken as it was meant."""

import tarfile

import numpy as np
import pytest

from benchmarks.fuzz_density import ARCHIVE
from densityjax.density.formats.unit import BOHR
from densityjax.density.grid import resample
from densityjax.density.reader import read_density_bytes

MATERIALS = 8


@pytest.fixture(scope="module")
def densities():
    """Some that are spread over the archive."""
    with tarfile.open(ARCHIVE) as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".xz"))
        names = names[:: len(names) // MATERIALS][:MATERIALS]
        return [read_density_bytes(archive.extractfile(name).read(), name) for name in names]


def numbers(values):
    return [f"{x:.6E}" for x in values]


def cube(density, values, length=BOHR, sign=1, double=False, cell_vectors=False):
    """A cube with lengths in units of `length` Å."""
    shape = np.array(values.shape)
    edges = density.lattice / length / (1 if cell_vectors else shape[:, None])
    if double:
        values = np.pad(values, [(0, 1)] * 3, mode="wrap")
    lines = ["a density", "of a crystal", f"{len(density.species)} 0.0 0.0 0.0"]
    for n, row in zip(values.shape, edges):
        lines.append(f"{sign * n} " + " ".join(f"{x:.9f}" for x in row))
    for z, row in zip(density.species, density.positions @ density.lattice / length):
        lines.append(f"{z} 0.0 " + " ".join(f"{x:.6f}" for x in row))
    return "\n".join([*lines, *numbers(values.ravel()), ""]).encode()


def xsf(density, values, double=True):
    rows = [" ".join(f"{x:.9f}" for x in row) for row in density.lattice]
    lines = ["CRYSTAL", "PRIMVEC", *rows, "PRIMCOORD", f"{len(density.species)} 1"]
    for z, row in zip(density.species, density.positions @ density.lattice):
        lines.append(f"{z} " + " ".join(f"{x:.6f}" for x in row))
    if double:
        values = np.pad(values, [(0, 1)] * 3, mode="wrap")
    lines += ["BEGIN_BLOCK_DATAGRID_3D", "density", "BEGIN_DATAGRID_3D_1"]
    lines += [" ".join(map(str, values.shape)), "0.0 0.0 0.0", *rows]
    lines += [*numbers(values.ravel(order="F")), "END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D", ""]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("write", "unit", "options", "said"),
    [
        (cube, "e/Bohr^3", {}, ""), (cube, "e/Å^3", {}, "taken as e/Å^3"),
        (cube, "rho * V_cell", {}, "taken as rho * V_cell"),
        (cube, "e/Bohr^3", {"double": True}, "the last planes repeat the first"),
        (cube, "e/Bohr^3", {"sign": -1}, "lengths are taken as Bohr"),
        (cube, "e/Bohr^3", {"sign": -1, "double": True}, "lengths are taken as Bohr"),
        (cube, "e/Bohr^3", {"sign": -1, "length": 1.0}, "lengths are in Å, as the numbers"),
        (cube, "e/Bohr^3", {"length": 1.0}, "lengths are taken as Å"),
        (cube, "e/Å^3", {"length": 1.0}, "lengths are taken as Å"),
        (cube, "e/Bohr^3", {"cell_vectors": True}, "taken as those of the cell"),
        (cube, "rho * V_cell", {"cell_vectors": True}, "taken as those of the cell"),
        (xsf, "e/Bohr^3", {}, ""), (xsf, "e/Å^3", {}, "taken as e/Å^3"),
        (xsf, "e/Å^3", {"double": False}, "do not repeat its first, they are kept"),
    ],
)
def test_files_are_taken_as_they_were_meant(densities, write, unit, options, said):
    for density in densities:
        factor = {"e/Bohr^3": BOHR**3, "e/Å^3": 1.0, "rho * V_cell": density.volume}[unit]
        values = resample(density.values, 8)
        found = read_density_bytes(write(density, values * factor, **options), "x")
        assert found.volume == pytest.approx(density.volume, rel=1e-5)
        np.testing.assert_allclose(found.values, values, rtol=1e-4, atol=1e-5)
        assert bool(found.notes) == bool(said)
        assert said in "; ".join(found.notes)
