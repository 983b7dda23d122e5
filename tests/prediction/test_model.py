import dataclasses
import io
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.vasp import VaspChargeDensity
from ase.io.cube import write_cube
from ase.units import Bohr
from pymatgen.io.common import VolumetricData
from pymatgen.io.vasp.outputs import Chgcar

import densityjax
from densityjax.density.reader import read_density
from densityjax.prediction.model import Model
from densityjax.prediction.predict_files import predict_files
from densityjax.prediction.tables import CsvTable
from densityjax.runtime.errors import UserError

SHIPPED = Path(__file__).parents[2] / "tfds_builders/elastic_densities/elastic_densities-1.0.0.tar"


@pytest.fixture(scope="module")
def model(smoke_run) -> Model:
    return densityjax.load(smoke_run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three small files without spin, plain text."""
    path = tmp_path_factory.mktemp("densities")
    with tarfile.open(SHIPPED) as archive:
        members = [m for m in archive.getmembers() if "CHGCAR" in m.name]
        members.sort(key=lambda member: member.size)
        for member in members[:3]:
            name = Path(member.name).name.removesuffix(".xz")
            (path / name).write_bytes(lzma.decompress(archive.extractfile(member).read()))
    return path


def test_import_is_quick_and_brings_no_jax():
    code = (
        "import sys, time\nstart = time.perf_counter()\nimport densityjax\n"
        "took = time.perf_counter() - start\n"
        "print(took, callable(densityjax.load), 'jax' in sys.modules, 'numpy' in sys.modules)"
    )
    took, has, *heavy = min(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        ).stdout.split()
        for _ in range(2)  # of a machine that is busy
    )
    assert float(took) < 0.3
    assert has == "True"
    assert heavy == ["False", "False"]


def test_one_density_is_the_same_from_everywhere(model, folder, tmp_path):
    path = min(folder.iterdir())
    read = read_density(path)
    atoms = Atoms(read.species, scaled_positions=read.positions, cell=read.lattice, pbc=True)
    with (tmp_path / "x.cube").open("w") as file:
        write_cube(file, atoms, data=read.values * Bohr**3)
    ase = VaspChargeDensity(str(path))
    items = [
        path, str(path), Chgcar.from_file(path), VolumetricData.from_cube(tmp_path / "x.cube"),
        (ase.atoms[0], ase.chg[0]), read,
    ]
    config = model.members[0][0].config.copy_and_resolve_references()
    config.train.batch_size = 1  # one program for the list and for one alone
    one = Model(model.path, ((dataclasses.replace(model.members[0][0], config=config),),))
    frame = one.predict(items)
    assert list(frame.columns) == [
        "file", "formula", "target", "prediction", "unit", "lower", "upper", "set", "spread",
        "probability", "warnings",
    ]
    size = len(model.targets)
    assert list(frame["target"]) == list(model.targets) * len(items)
    assert list(frame["file"][::size]) == [
        str(path), str(path), "Chgcar [2]", "VolumetricData [3]", "Atoms [4]", str(path),
    ]
    first = frame.iloc[:size]
    for start in range(size, len(frame), size):
        own = frame.iloc[start : start + size]
        np.testing.assert_array_equal(own["formula"], first["formula"])
        for row in range(size):
            a, b = own["prediction"].iloc[row], first["prediction"].iloc[row]
            assert a == (b if isinstance(b, str) else pytest.approx(b, rel=1e-3, abs=1e-3))
    # One alone gives the same, and has no place in a list.
    alone = one.predict((ase.atoms[0], ase.chg[0]))
    assert set(alone["file"]) == {"Atoms"}
    np.testing.assert_allclose(alone["spread"], first["spread"], rtol=1e-2, atol=1e-3)


def test_the_table_is_that_of_the_command_line(model, folder, tmp_path):
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    with io.StringIO() as file:
        paths = [*sorted(folder.iterdir()), missing]
        predict_files(model, paths, CsvTable(file, (0.5, 0.8)), (0.5, 0.8))
        expected = pd.read_csv(io.StringIO(file.getvalue()))
    frame = model.predict(iter([folder, missing, empty, 3]), coverage=(0.5, 0.8))
    frame, bad = frame.iloc[:-2], frame.iloc[-2:]
    assert sorted(frame.columns) == sorted(expected.columns)
    for name in ("file", "formula", "target", "unit", "warnings"):
        assert list(frame[name].fillna("")) == list(expected[name].fillna("")), name
    for name in ("lower_0.5", "upper_0.8", "spread", "probability"):
        np.testing.assert_allclose(frame[name], expected[name].astype(float), rtol=1e-3, atol=1e-3)
    has_class = "class" in set(frame["unit"])
    assert frame["prediction"].dtype == (object if has_class else float)
    sets = frame["set_0.5"].dropna()
    assert [";".join(own) for own in sets] == list(expected["set_0.5"].dropna())
    assert list(bad["file"]) == [str(empty), "int [3]"]
    assert bad["prediction"].isna().all()
    assert bad["warnings"].iloc[0].startswith(f"error: folder {empty} has no file")
    assert bad["warnings"].iloc[1].startswith("error: int [3]: expected a path")


@pytest.mark.parametrize(
    ("x", "message"),
    [("nowhere", "nowhere: cannot be opened"), (3, "int: expected a path"),
     ((Atoms("Fe", cell=[2, 2, 2]), np.ones(3)), r"Atoms: expected an array")],
)
def test_one_bad_density_is_an_error(model, x, message):
    with pytest.raises(UserError, match=message):
        model.predict(x)


def test_a_folder_without_densities_is_an_error(model, tmp_path):
    with pytest.raises(UserError, match="no file with the name of a density"):
        model.predict(tmp_path)


@pytest.mark.parametrize("coverage", [0, 1.0, "all", (), (0.9, 2), float("nan"), None])
def test_coverages_that_are_none_are_refused(model, coverage):
    with pytest.raises(UserError, match="coverage="):
        model.predict([], coverage=coverage)


def test_nothing_gives_an_empty_table(model):
    frame = model.predict([])
    assert len(frame) == 0
    assert "lower" in frame.columns


def test_a_model_says_what_it_is(model, smoke_run):
    assert repr(model).startswith(f"<densityjax model {smoke_run}: ")
    assert repr(model).endswith(f"{len(model.targets)} targets: {', '.join(model.targets)}>")
    assert len(repr(model)) < 400


def test_no_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not the directory of a finished run"):
        densityjax.load(tmp_path)
