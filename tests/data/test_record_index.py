"""The index beside the dataset: what it holds, when it is trusted, when it is made anew."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from densityjax.data import record_index
from densityjax.data.batches import evaluation_batches
from densityjax.data.dataset import DatasetError, fingerprint
from densityjax.data.records import load_records
from densityjax.targets import get_specs
from tests.data.loading import open_copy

SPLIT = "fold2"
SPECS = get_specs(["volume", "is_metal"])


@pytest.fixture
def builder(small_dataset, tmp_path):
    """A dataset of its own for each test, without an index."""
    return open_copy(small_dataset, tmp_path)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the features decoded, record after record."""
    seen = []
    getitem = record_index.PartialSource.__getitem__

    def noted(self, row):
        seen.append(tuple(self._features))
        return getitem(self, row)

    monkeypatch.setattr(record_index.PartialSource, "__getitem__", noted)
    return seen


def read_index(builder, split=SPLIT):
    return record_index.read_index(builder, split, fingerprint(builder))


def index_path(builder, split=SPLIT):
    return Path(builder.data_dir) / f"index-{split}.npz"


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("chunk", [4, 1024])
def test_scan_holds_what_is_stored(builder, monkeypatch, chunk):
    monkeypatch.setattr(record_index, "_CHUNK", chunk)
    columns = record_index.scan(builder, SPLIT)
    stored = list(builder.as_data_source(split=SPLIT))
    assert len(stored) == 6
    stops = np.cumsum(columns["num_atoms"])
    assert stops[-1] == len(columns["species"])
    for row, record in enumerate(stored):
        assert columns["index"][row] == record["index"]
        for name in ("material_id", "formula", "chemical_system", "code"):
            assert columns[name][row] == record[name].decode()
        np.testing.assert_array_equal(columns["lattice"][row], record["lattice"])
        assert columns["num_electrons"][row] == np.float32(record["num_electrons"])
        assert columns["channels"][row] == record["density"].shape[-1]
        assert columns["grid"][row] == 24
        start = stops[row] - columns["num_atoms"][row]
        np.testing.assert_array_equal(columns["species"][start : stops[row]], record["species"])
        for name, value in record["targets"].items():
            np.testing.assert_array_equal(columns[f"targets/{name}"][row], np.float32(value))
        moment = 0.0
        if record["density"].shape[-1] == 2:
            volume = abs(np.linalg.det(record["lattice"].astype(float)))
            moment = abs(record["density"][..., 1].astype(float).mean() * volume)
        assert columns["moment"][row] == pytest.approx(moment, rel=1e-4, abs=1e-5)
    assert (columns["moment"] > 0.5).sum() == 2
    assert "density" not in columns
    assert sum(column.nbytes for column in columns.values()) < 500 * len(stored)


def test_only_the_first_start_scans(builder, decoded):
    first = read_index(builder, SPLIT)
    assert len(decoded) == 6
    assert index_path(builder).exists()
    second = read_index(builder, SPLIT)
    assert len(decoded) == 6
    assert_same(first, second)
    left = os.listdir(builder.data_dir)
    assert not [name for name in left if name.startswith(".index")]  # no partial file


def test_with_an_index_loading_decodes_no_density(builder, decoded):
    def load(cache_in_memory):
        return load_records(
            builder, ["fold3", SPLIT], SPECS, channels=1,
            spin_polarized_only=False, cache_in_memory=cache_in_memory,
        )

    load(False)
    decoded.clear()
    records = load(False)
    assert decoded == []
    records.density(3)
    assert decoded == [("density",)]
    load(True)
    assert decoded[1:] == [("density",)] * 12


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no zip", "other split", "column"])
def test_a_damaged_or_stale_file_is_replaced(builder, decoded, damage):
    good = read_index(builder, SPLIT)
    path = index_path(builder)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        place = content.index(good["lattice"].tobytes()) + 7
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no zip":
        path.write_bytes(b"not an index")
    elif damage == "other split":
        read_index(builder, "fold3")
        shutil.copy(index_path(builder, "fold3"), path)
    else:
        np.savez(path, index=good["index"])  # without a key
    decoded.clear()
    assert_same(read_index(builder, SPLIT), good)
    assert len(decoded) == 6
    assert_same(read_index(builder, SPLIT), good)
    assert len(decoded) == 6  # written anew


@pytest.mark.parametrize("change", ["fingerprint", "version", "shards"])
def test_an_index_of_other_data_is_not_taken(builder, decoded, monkeypatch, change):
    read_index(builder, SPLIT)
    decoded.clear()
    if change == "fingerprint":
        builder.info.metadata["archive_sha256"] = "0" * 64
    elif change == "version":
        monkeypatch.setattr(record_index, "_VERSION", record_index._VERSION + 1)
    else:
        builder.info.splits[SPLIT].shard_lengths[:] = [1, 1, 2, 2]
        monkeypatch.setattr(record_index, "scan", lambda *_: decoded.append("scan") or {})
    read_index(builder, SPLIT)
    assert decoded


def test_a_place_that_cannot_be_written_to_costs_a_scan_each_time(builder, decoded, monkeypatch):
    def refused(path):
        raise PermissionError("read-only")

    monkeypatch.setattr(record_index, "replaced", refused)
    a, b = (read_index(builder, SPLIT) for _ in range(2))
    assert_same(a, b)
    assert len(decoded) == 12
    assert not index_path(builder).exists()


def test_a_failed_write_leaves_nothing_behind(builder, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_index.np, "savez", full)
    before = set(os.listdir(builder.data_dir))
    assert len(read_index(builder, SPLIT)["index"]) == 6
    assert set(os.listdir(builder.data_dir)) == before


def _damage(path, kind):
    content = path.read_bytes()
    if kind == "gone":
        path.unlink()
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        written = np.flatnonzero(np.frombuffer(content, np.uint8))  # the rest fills the block
        place = {"bit": written[len(written) // 2], "header": 70}[kind]
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])


@pytest.mark.parametrize("kind", ["bit", "header", "half", "empty", "gone"])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_damaged_shard_is_named_with_the_remedy(builder, kind, indexed):
    """At the scan, or where an index is there, in the worker threads that read densities."""
    options = {"channels": 1, "spin_polarized_only": False, "cache_in_memory": False}
    if indexed:
        load_records(builder, [SPLIT], SPECS, **options)
    shard = next(path for path in builder.info.splits[SPLIT].filepaths)
    _damage(Path(shard), kind)
    remedy = f"delete the folder {builder.data_dir} and build it again: python -m tfds_builders "
    remedy += f"elastic_densities/grid24 --data_dir={builder.data_dir_root}"

    def read() -> None:
        records = load_records(builder, [SPLIT], SPECS, **options)
        assert indexed
        list(evaluation_batches(records, 4))

    with pytest.raises(DatasetError, match=re.escape(builder.data_dir)) as error:
        read()
    assert remedy in str(error.value)
    assert "elastic_densities/grid24" in str(error.value)
    if kind == "bit":
        assert shard.name in str(error.value)
