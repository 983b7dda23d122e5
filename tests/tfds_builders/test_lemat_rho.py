"""LeMat-Rho from parquet shards to records; shards of its schema made of real densities.

Columns and their meaning are those of its card (charge_density: rho * V, float32, C order, null
where there is none) and of LeMaterial's other datasets (structure, energy, functional).
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

vectors = pa.list_(pa.list_(pa.float64()))
SCHEMA = pa.schema({
    "immutable_id": pa.string(), "elements": pa.list_(pa.string()), "nsites": pa.int32(),
    "chemical_formula_reduced": pa.string(), "lattice_vectors": vectors,
    "cartesian_site_positions": vectors, "species_at_sites": pa.list_(pa.string()),
    "energy": pa.float64(), "functional": pa.string(),
    "charge_density": pa.list_(pa.float32()), "charge_density_grid_shape": pa.list_(pa.int64()),
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
        assert np.isnan(targets["fermi_energy"])  # this schema has no dos_ef
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
    assert "3 of 11 rows were left out" in capsys.readouterr().err


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
    fails("no row has a density", write(tmp_path / "null", [[null]]))

    cut = write(tmp_path / "cut", [materials[:2]])
    (shard,) = cut.iterdir()
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    fails("damaged or cut short", cut)
    wrong = materials[0] | {"charge_density_grid_shape": [2, 2, 2]}
    fails(r"row 0: .*expected 8 numbers", write(tmp_path / "wrong", [[wrong]]))
