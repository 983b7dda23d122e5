import dataclasses
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzz_density import ARCHIVE
from densityjax import inspect
from densityjax.density.plausibility import warnings_of
from densityjax.density.reader import read_density_bytes
from tests.density.test_reader import chgcar

APART = np.array([[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])  # fractional, of the atoms of chgcar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real densities with spin and without, one cut short, and what is no density."""
    root = tmp_path_factory.mktemp("densities")
    with tarfile.open(ARCHIVE) as archive:
        for name in ("mp-13", "mp-10000"):
            data = archive.extractfile(f"densities/{name}.CHGCAR.xz").read()
            (root / f"{name}.CHGCAR.xz").write_bytes(data)
    (root / "cut.CHGCAR").write_text(chgcar()[:-40])
    (root / "labels.csv").write_text("file,energy\n")
    return root


def run(capsys, *arguments):
    status = inspect.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_json_has_an_object_per_file(folder, capsys):
    status, out, err = run(capsys, "--json", folder)
    cut, hafnium, iron = json.loads(out)
    assert status == 1
    assert "1 of 3 files could not be read" in err
    for row in (cut, hafnium, iron):
        assert tuple(row) == inspect.KEYS
    assert cut["file"] == str(folder / "cut.CHGCAR")
    assert "cut.CHGCAR: grid block 1 of (2, 3, 4): expected 24 numbers" in cut["error"]
    assert (cut["formula"], cut["num_electrons"]) == (None, None)
    assert (iron["formula"], iron["error"], iron["warnings"]) == ("Fe", None, [])
    assert iron["grid"] == [14, 14, 14]
    assert iron["num_electrons"] == pytest.approx(8, abs=1e-4)
    assert iron["magnetization"] == pytest.approx(2.26, abs=0.01)
    assert hafnium["magnetization"] is None
    assert hafnium["volume"] == pytest.approx(117.083, rel=1e-5)
    density = read_density_bytes((folder / "mp-10000.CHGCAR.xz").read_bytes(), "x")
    assert (hafnium["min"], hafnium["max"]) == (density.values.min(), density.values.max())


def test_text_tells_the_same(folder, capsys):
    status, out, _ = run(capsys, folder / "mp-13.CHGCAR.xz")
    assert status == 0
    for part in (
        "mp-13.CHGCAR.xz: Fe", "atoms      1", "109.47 109.47 109.47°, 11.4273 Å³", "14 x 14 x 14",
        "electrons  8.00000", "0 % of it below zero", "moment     2.26",
    ):
        assert part in out


def test_patterns_and_mistakes(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a[1].CHGCAR").write_text(chgcar())
    arguments = (folder / "mp-*", tmp_path / "*.none", tmp_path / "empty", tmp_path / "a[1].CHGCAR")
    status, out, err = run(capsys, "--json", *arguments, tmp_path / "missing")
    rows = json.loads(out)
    assert status == 1
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, False, True]
    assert "no file matches" in rows[2]["error"]
    assert "no file with the name of a density" in rows[3]["error"]
    assert "cannot be opened (No such file" in rows[5]["error"]
    assert err.count("error: ") == 4


def test_pictures(folder, tmp_path, capsys):
    status, *_ = run(capsys, folder / "mp-13.CHGCAR.xz", "--png", "--png_dir", tmp_path / "new")
    assert status == 0
    picture = np.asarray(Image.open(tmp_path / "new/mp-13.CHGCAR.xz.png"))
    assert picture.shape[1] == 1200
    assert picture.std() > 10


def test_planes_have_the_shape_of_the_cell():
    x, y = inspect._corners(np.array([0, 0, 4.0]), np.array([0, 3.0, 1.0]), (4, 3))
    assert x.shape == y.shape == (5, 4)
    np.testing.assert_allclose(np.diff(x, axis=0), 1.0)
    np.testing.assert_allclose(np.diff(y, axis=1), 1.0)
    np.testing.assert_allclose(np.diff(x, axis=1), 1 / 3)


@pytest.mark.parametrize(
    ("name", "factor", "warning"),
    [
        ("CHGCAR", 1.0, None),
        ("CHGCAR", 1.05, "are far from a whole number"),
        ("PARCHG.0001", 1.05, "by its name (PARCHG) the density of chosen bands"),
        ("AECCAR0", 1.05, "by its name (AECCAR0) the density of the core electrons alone"),
        ("AECCAR2", 1.05, "by its name (AECCAR2) a part of the all-electron density"),
        ("CHGCAR", 4.0, "where the neutral atoms have 42"),
        ("LOCPOT", 1.0, "by its name (LOCPOT) a potential"),
        ("SPIN_UP.vasp", 1.0, "by its name (SPIN UP) the density of one spin"),
        ("CHGCAR", 0.5, "where these atoms have 20 valence electrons at least"),
        ("CHGCAR", 1.3, "where these atoms have 32 valence electrons at most"),
        ("CHGCAR", 0.001, "0.03 electrons for 3 atoms: rho where rho * V_cell is expected"),
    ],
)
def test_warnings_depend_on_the_kind_of_file(name, factor, warning):
    text = chgcar(blocks=1)  # 111.5 electrons of FeO2, which has 42
    density = dataclasses.replace(read_density_bytes(text.encode(), name), positions=APART)
    density.values[:] *= 30 * factor / density.num_electrons
    found = warnings_of(density)
    assert len(found) == (warning is not None)
    assert warning is None or any(warning in text for text in found)


def test_a_charge_explains_a_fraction():
    density = dataclasses.replace(read_density_bytes(chgcar().encode(), "x"), positions=APART)
    density.values[:] *= 30.5 / density.num_electrons
    assert "far from a whole number" in warnings_of(density)[0]
    assert warnings_of(dataclasses.replace(density, charge=-0.5)) == ()
    assert "charge of +0.3 e" in warnings_of(dataclasses.replace(density, charge=0.3))[0]


def test_too_much_moment_and_negative_voxels():
    density = read_density_bytes(chgcar(blocks=2).encode(), "CHGCAR")
    density.values[:] *= 30 / density.num_electrons
    density.values[0, :2, 0] *= -1
    found = " ".join(warnings_of(density))
    assert "more than" in found
    assert "8.33 % of the density is below zero" in found


def test_a_reader_that_closes_the_pipe_is_no_error(folder):
    command = f"{sys.executable} -m densityjax.inspect {folder}/mp-13.CHGCAR.xz" + f" {folder}" * 40
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, check=False
    )
    assert "mp-13.CHGCAR.xz: Fe" in done.stdout
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_odd_names_are_one_line_of_their_file(folder, tmp_path, capsys):
    (tmp_path / "CHGCAR").symlink_to(tmp_path / "gone")
    good = folder / "mp-13.CHGCAR.xz"
    status, out, _ = run(capsys, "--json", "a\0b", "x" * 300, tmp_path, good)
    nul, long, link, iron = json.loads(out)
    assert status == 1
    assert "a name with a NUL" in nul["error"]
    assert "File name too long" in long["error"]
    assert f"it is a link to {tmp_path}/gone" in link["error"]
    assert iron["formula"] == "Fe"
