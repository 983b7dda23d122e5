"""LeMat-Rho from parquet shards to records; shards of its schema made of real densities.

Columns, their types and their meaning are those of PARQUET_SCHEMA in LeMaterial/lematerial-fetcher,
fetcher/lematrho/pipeline.py, which writes the dataset, and charge_density of discussion 10 on its
page (rho * V, float32, C order, null where there is none).
"""

import csv
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols

import tfds_builders
from densityjax.density import grid
from densityjax.density.reader import read_density_bytes
from tests.tfds_builders.test_elastic_densities import SHIPPED
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

floats, texts = pa.list_(pa.float64()), pa.list_(pa.string())
vectors = pa.list_(floats)
SCHEMA = pa.schema({
    "elements": texts, "nsites": pa.int32(), "chemical_formula_anonymous": pa.string(),
    "chemical_formula_reduced": pa.string(), "chemical_formula_descriptive": pa.string(),
    "nelements": pa.int8(), "dimension_types": pa.list_(pa.int8()),
    "nperiodic_dimensions": pa.int8(), "lattice_vectors": vectors, "immutable_id": pa.string(),
    "cartesian_site_positions": vectors, "species": pa.string(), "species_at_sites": texts,
    "last_modified": pa.string(), "elements_ratios": floats, "stress_tensor": vectors,
    "energy": pa.float64(), "energy_corrected": pa.float64(), "magnetic_moments": floats,
    "forces": vectors, "total_magnetization": pa.float64(), "charges": floats,
    "dos_ef": pa.float64(), "functional": pa.string(), "cross_compatibility": pa.bool_(),
    "bawl_fingerprint": pa.string(), "space_group_it_number": pa.int32(),
    "compressed_charge_density": pa.string(), "compressed_aeccar0": pa.string(),
    "compressed_aeccar1": pa.string(), "compressed_aeccar2": pa.string(),
    "charge_density_grid_shape": pa.list_(pa.int32()), "bader_charges": floats,
    "bader_atomic_volume": floats, "ddec6_charges": floats,
    "charge_density": pa.list_(pa.float32()),
})


@pytest.fixture(scope="module")
def materials() -> list[dict]:
    """Rows of eight small real materials with, beside them, their density and labels."""
    found = []
    with tarfile.open(SHIPPED) as archive:
        rows = list(csv.DictReader(archive.extractfile("labels.csv").read().decode().splitlines()))
        rows.sort(key=lambda row: archive.getmember(row["file"]).size)
        for label in [*rows[:7], rows[49]]:  # the last on 12 x 12 x 18 points
            text = lzma.decompress(archive.extractfile(label["file"]).read())
            density = read_density_bytes(text, label["file"])
            symbols = label["chemical_system"].split("-")
            found.append({
                "immutable_id": f"agm{len(found):09}", "elements": symbols,
                "nsites": len(density.species), "chemical_formula_reduced": label["formula"],
                "lattice_vectors": density.lattice.tolist(),
                "cartesian_site_positions": (density.positions @ density.lattice).tolist(),
                "species_at_sites": [chemical_symbols[z] for z in density.species],
                "energy": float(label["total_energy"]), "functional": "r2scan",
                "dos_ef": 1.23, "total_magnetization": 4.5,  # neither is what a label means
                "charge_density": (density.values * density.volume).astype(np.float32).ravel(),
                "charge_density_grid_shape": list(density.values.shape),
                "_label": label, "_density": density,
            })
    return found


def write(folder: Path, shards: list[list[dict]], drop: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(
            [{k: v for k, v in row.items() if k[0] != "_"} for row in rows], SCHEMA
        )
        name = f"train-{number:05}-of-{len(shards):05}.parquet"
        pq.write_table(table.drop_columns(list(drop)), folder / name)
    return folder


def test_records(materials, tmp_path, capsys):
    unusable = [
        materials[0] | {"charge_density": None, "immutable_id": "null"},
        materials[1] | {"functional": "pbe", "immutable_id": "pbe"},
        materials[2],  # again
    ]
    shards = [materials[:5] + unusable[:1], materials[5:] + unusable[1:]]
    folder = write(tmp_path / "shards/data", shards).parent
    builder = tfds_builders.load_builder("lemat_rho/grid32", tmp_path, source=folder)
    builder.download_and_prepare()
    sources = builder.as_data_source()
    found = {r["material_id"].decode(): r for source in sources.values() for r in source}
    assert set(found) == {material["immutable_id"] for material in materials}
    for material in materials:
        record, label = found[material["immutable_id"]], material["_label"]
        volume = abs(np.linalg.det(record["lattice"].astype(float)))
        electrons = record["density"].mean(dtype=float) * volume
        assert electrons == pytest.approx(float(label["num_electrons"]), rel=1e-4)
        assert record["species"].tolist() == material["_density"].species.tolist()
        assert record["formula"].decode() == label["formula"]
        assert record["fold"] == fold_of(label["chemical_system"])
        targets = record["targets"]
        assert targets["volume"] == pytest.approx(float(label["volume"]), rel=1e-4)
        assert targets["density"] == pytest.approx(float(label["density"]), rel=1e-3)
        assert targets["total_energy"] == pytest.approx(float(label["total_energy"]))
        assert set(targets) == {"volume", "density", "total_energy"}
        assert record["functional"] == b"r2SCAN"
    # A grid that another order of the axes would scramble.
    chosen = materials[-1]
    assert chosen["charge_density_grid_shape"] == [12, 12, 18]
    expected = grid.resample(chosen["_density"].values, 32)
    stored = found[chosen["immutable_id"]]["density"][..., 0]
    np.testing.assert_allclose(stored, expected, rtol=1e-3, atol=1e-4)

    with open(Path(builder.data_path) / "lemat_rho_left_out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["material_id"] for row in rows] == ["null", "pbe", materials[2]["immutable_id"]]
    for row, reason in zip(rows, ("charge_density is null", "functional pbe", "another row")):
        assert reason in row["reason"]
    assert builder.info.metadata["num_left_out"] == 3
    assert builder.info.metadata["shards"] == "data"
    said = capsys.readouterr().err
    assert "3 of 11 rows were left out" in said
    assert "1 rows: functional pbe, not r2SCAN" in said


def test_other_shards_are_another_dataset(materials, tmp_path):
    fingerprints = []
    for number, energy in enumerate((-1.0, -2.0)):
        rows = [materials[0] | {"energy": energy}]
        root = tmp_path / str(number)
        folder = write(root / "x", [rows])
        builder = tfds_builders.load_builder("lemat_rho/grid32", root, source=folder)
        builder.download_and_prepare()
        fingerprints.append(tfds_builders.fingerprint(builder))
    assert fingerprints[0] != fingerprints[1]


def test_what_cannot_be_built(materials, tmp_path):
    def fails(message: str, folder: Path | str) -> None:
        builder = tfds_builders.load_builder(
            "lemat_rho/grid32", tmp_path / "data", source=folder
        )
        with pytest.raises(DatasetSourceError, match=message):
            builder.download_and_prepare()
        assert not builder.is_prepared()

    fails("built from parquet shards", "")
    fails("no \\*.parquet there", tmp_path / "none")
    smoothed = write(tmp_path / "smoothed", [materials[:1]], drop=("charge_density",))
    fails("no column charge_density; expected", smoothed)
    null = materials[0] | {"charge_density": None}
    message = r"no row can be used \(1 rows: charge_density is null"
    fails(message, write(tmp_path / "null", [[null]]))

    cut = write(tmp_path / "cut", [materials[:2]])
    (shard,) = cut.iterdir()
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    fails("damaged or cut short", cut)


def built(tmp_path, rows: list[dict], config: str = "grid32"):
    builder = tfds_builders.load_builder(
        f"lemat_rho/{config}", tmp_path / "data", source=write(tmp_path / "x", [rows])
    )
    builder.download_and_prepare()
    records = [record for source in builder.as_data_source().values() for record in source]
    with open(Path(builder.data_path) / "lemat_rho_left_out.csv", newline="") as file:
        reasons = {row["material_id"]: row["reason"] for row in csv.DictReader(file)}
    return builder, {r["material_id"].decode(): r for r in records}, reasons


def test_one_bad_row_is_that_rows_problem(materials, tmp_path, capsys):
    density = materials[0]["charge_density"]
    bad = {
        "nan": {"charge_density": np.full_like(density, np.nan)},
        "shape": {"charge_density_grid_shape": [2, 2, 2]},
        "no shape": {"charge_density_grid_shape": None},
        "element": {"species_at_sites": ["Qq"] * materials[0]["nsites"]},
        "flat": {"lattice_vectors": np.zeros((3, 3)).tolist()},
        "volume": {"charge_density": density / np.float32(materials[0]["_density"].volume)},
        "coarse": {
            "charge_density": density[:8], "charge_density_grid_shape": [2, 2, 2],
        },
    }
    rows = [materials[0] | change | {"immutable_id": name} for name, change in bad.items()]
    _, records, reasons = built(tmp_path, [*rows, *materials[:2]])
    assert set(records) == {material["immutable_id"] for material in materials[:2]}
    expected = {
        "nan": "damaged: ", "shape": "expected 8 numbers", "element": "expected element symbols",
        "no shape": "charge_density_grid_shape is null", "flat": "damaged: ",
        "volume": "a number of electrons that its atoms cannot have",
        "coarse": "2 x 2 x 2 points, up to",
    }
    assert set(reasons) == set(expected)
    for name, text in expected.items():
        assert text in reasons[name]
        assert reasons[name].startswith(f"{tmp_path}/x/train-00000-of-00001.parquet, row ")
    assert "4 rows: damaged" in capsys.readouterr().err


def test_coarse_grids_and_changed_electrons_are_warned_of(materials, tmp_path, capsys):
    """Of grids between the limits; and where something was added to every point."""
    first = materials[0]
    lengths = np.linalg.norm(first["lattice_vectors"], axis=1)
    shape = np.ceil(lengths / 0.4).astype(int)
    values = np.full(shape.prod(), 1.0, np.float32) * first["_density"].num_electrons
    coarse = {"charge_density": values, "charge_density_grid_shape": shape.tolist()}
    more = {"charge_density": materials[1]["charge_density"] + np.float32(0.5)}
    # All others on their own grids, finer than the limit or not.
    rows = [first | coarse, materials[1] | more]
    builder, records, _ = built(tmp_path, rows)
    assert len(records) == 2
    assert builder.info.metadata["num_electrons_not_whole"] == 1
    assert builder.info.metadata["num_coarse"] >= 1
    said = capsys.readouterr().err
    assert "densities have points over 0.25 Å apart" in said
    assert "the electrons of 1 of 2 densities are no whole number" in said


def test_configs_are_told_apart(materials, tmp_path):
    """data/ and adaptive-grid/ hold the same materials: which one is meant is asked."""
    for name in ("data", "adaptive-grid"):
        write(tmp_path / "rho" / name, [materials[:1]])
    builder = tfds_builders.load_builder("lemat_rho/grid32", tmp_path, source=tmp_path / "rho")
    message = r"several folders \(adaptive-grid, data\).*--source=.*/rho/adaptive-grid"
    with pytest.raises(DatasetSourceError, match=message):
        builder.download_and_prepare()
    source = tmp_path / "rho/adaptive-grid"
    builder = tfds_builders.load_builder("lemat_rho/grid32", tmp_path, source=source)
    builder.download_and_prepare()
    assert builder.info.metadata["shards"] == "adaptive-grid"


def test_functional_that_matches_no_row(materials, tmp_path):
    """What the shards say is named, and a config takes them as what they say."""
    rows = [material | {"functional": "pbe"} for material in materials[:2]]
    message = (
        r"no row can be used \(2 rows: functional pbe, not r2SCAN\); for those that say PBE, "
        "build lemat_rho/grid32_pbe"
    )
    with pytest.raises(DatasetSourceError, match=message):
        built(tmp_path, rows)
    _, records, _ = built(tmp_path, rows, "grid32_pbe")
    assert {record["functional"] for record in records.values()} == {b"PBE"}
    with pytest.raises(DatasetSourceError, match=r"functional None, not r2SCAN\)$"):
        built(tmp_path / "null", [materials[0] | {"functional": None}])
