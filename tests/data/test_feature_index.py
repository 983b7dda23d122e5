"""Features beside the dataset: equal to those of the records, and when they are made anew."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from densityjax.data import feature_index, record_index
from densityjax.data.dataset import DatasetError, fingerprint
from densityjax.density.core import seen_record
from densityjax.features.composition import composition_features
from densityjax.features.invariants import record_invariants
from densityjax.features.record_features import PER_ATOM, WIDTHS, record_features
from densityjax.results.predictions import features_of, unlabelled_records
from tests.data.loading import FOLDS, SPECS, load, open_copy

SPLIT = "fold2"


@pytest.fixture
def builder(small_dataset, tmp_path):
    """A dataset of its own for each test, without features."""
    return open_copy(small_dataset, tmp_path)


@pytest.fixture
def computed(monkeypatch):
    """Records whose features were computed."""
    seen, compute = [], feature_index.record_features

    def noted(record):
        seen.append(record)
        return compute(record)

    monkeypatch.setattr(feature_index, "record_features", noted)
    return seen


def _path(builder) -> Path:
    return Path(builder.data_dir) / f"features-{SPLIT}.npz"


def _read(builder):
    return feature_index.read_features(builder, SPLIT, fingerprint(builder))


def test_features_are_those_of_the_records_of_the_rows_kept(builder):
    records = load(builder, features=True, spin_polarized_only=True, cache_in_memory=False)
    stored = {r["index"]: r for fold in FOLDS for r in builder.as_data_source(split=fold)}
    assert 0 < len(records) < len(stored)
    for row, index in enumerate(records.index):
        record = stored[index]
        np.testing.assert_array_equal(
            records.features["invariants"][row], record_invariants(record)
        )
        np.testing.assert_array_equal(
            records.features["composition"][row],
            composition_features(record["species"], record["lattice"]),
        )
        np.testing.assert_array_equal(
            records.features["positions"][row], record["positions"].astype(np.float32)
        )
    assert records.features["invariants"].dtype == np.float32
    assert load(builder, cache_in_memory=False).features == {}


def test_a_predicted_file_has_the_features_of_the_record(builder):
    stored = list(builder.as_data_source(split=SPLIT))
    made = [
        record | {"formula": "", "chemical_system": ""} for record in stored
    ]
    records = unlabelled_records(made, SPECS, channels=1, features=features_of(made))
    expected = _read(builder)
    assert records.features.keys() == expected.keys() - {"num_atoms"}
    for name, values in records.features.items():
        found = np.concatenate(list(values)) if name in PER_ATOM else values
        np.testing.assert_array_equal(found, expected[name])
    assert unlabelled_records(made, SPECS, channels=1).features == {}


def test_what_cannot_be_determined_stays_so(builder):
    record = dict(next(iter(builder.as_data_source(split=SPLIT))))
    record |= {"species": np.zeros(0, np.int32), "positions": np.zeros((0, 3), np.float32)}
    features = record_features(record)
    assert features["surroundings"].shape == (0, WIDTHS["surroundings"])
    assert np.isnan(features["composition"]).all()
    assert np.isnan(features["invariants"]).any()
    assert np.isfinite(features["invariants"]).any()


@pytest.mark.parametrize("change", ["nothing", "damage", "version", "fingerprint", "other split"])
def test_they_are_computed_anew_when_stale_or_damaged(builder, computed, monkeypatch, change):
    first = _read(builder)
    assert len(computed) == len(first["invariants"]) == 6
    computed.clear()
    content = _path(builder).read_bytes()
    if change == "damage":
        place = content.index(first["invariants"].tobytes()) + 9
        flipped = bytes([content[place] ^ 1])
        _path(builder).write_bytes(content[:place] + flipped + content[place + 1 :])
    elif change == "version":
        monkeypatch.setattr(feature_index, "VERSION", "another")
    elif change == "fingerprint":
        builder.info.metadata["archive_sha256"] = "0" * 64
    elif change == "other split":
        feature_index.read_features(builder, "fold3", fingerprint(builder))
        shutil.copy(_path(builder).with_name("features-fold3.npz"), _path(builder))
        computed.clear()
    second = _read(builder)
    assert len(computed) == (0 if change == "nothing" else 6)
    for name in first:
        np.testing.assert_array_equal(second[name], first[name])
    computed.clear()
    _read(builder)
    assert not computed


def test_each_choice_of_core_has_features_of_its_own(builder, computed):
    identity = fingerprint(builder)

    def read(core):
        return feature_index.read_features(builder, SPLIT, identity, core)

    every, content = read("all"), _path(builder).read_bytes()
    charge = read("charge")
    assert len(computed) == 12
    assert _path(builder).read_bytes() == content
    stored = next(iter(builder.as_data_source(split=SPLIT)))
    np.testing.assert_array_equal(
        charge["invariants"][0], record_invariants(seen_record(stored, "charge"))
    )
    assert np.abs(charge["invariants"] - every["invariants"]).max() > 0.1
    np.testing.assert_array_equal(charge["composition"], every["composition"])
    # A file under the name of another choice is not taken for it.
    own = _path(builder).with_name(f"features-{SPLIT}-charge.npz")
    shutil.copy(_path(builder), own)
    np.testing.assert_array_equal(read("charge")["invariants"], charge["invariants"])
    shutil.copy(own, _path(builder))
    np.testing.assert_array_equal(read("all")["invariants"], every["invariants"])
    assert len(computed) == 24


def test_a_place_that_cannot_be_written_to(builder, computed, monkeypatch):
    def refused(path):
        raise PermissionError("read-only")

    monkeypatch.setattr(record_index, "replaced", refused)
    for _ in range(2):
        _read(builder)
    assert len(computed) == 12
    assert not _path(builder).exists()


def test_many_records_are_announced(builder, monkeypatch, capfd):
    _read(builder)
    assert capfd.readouterr().err == ""
    _path(builder).unlink()
    monkeypatch.setattr(feature_index, "_MANY", 5)
    _read(builder)
    assert "Computing features of 6 records of elastic_densities/grid24" in capfd.readouterr().err


def test_a_damaged_shard_is_named(builder):
    shard = Path(next(iter(builder.info.splits[SPLIT].filepaths)))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DatasetError, match="is damaged"):
        _read(builder)
