import dataclasses

import jax
import numpy as np
import pytest

from densityjax.data import input_pipeline as pipeline
from densityjax.targets import get_specs

NAME = "elastic_densities/grid24"
SPECS = get_specs(["volume", "debye_temperature", "is_metal"])
FOLDS = ("fold2", "fold3", "fold4")


@pytest.fixture(scope="module")
def builder(small_dataset):
    return pipeline.open_dataset(NAME, str(small_dataset), build=False)


def load(builder, folds=FOLDS, specs=SPECS, **changes):
    options = dict(channels=2, spin_polarized_only=False, cache_in_memory=True)
    return pipeline.load_records(builder, folds, specs, **options | changes)


@pytest.fixture(scope="module")
def records(builder):
    return load(builder)


@pytest.fixture(scope="module")
def source(records):
    labels, mask = pipeline.training_labels(records, SPECS, np.zeros(3), np.ones(3))
    return pipeline.BatchSource(records, labels, mask, 7, 8, 9, 0, 1)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_records_are_the_stored_ones(builder, records):
    stored = [r for fold in FOLDS for r in builder.as_data_source(split=fold)]
    assert len(records) == len(stored) == 18
    assert records.grid == 24
    by_id = {record["index"]: record for record in stored}
    for row, index in enumerate(records.index):
        record = by_id[index]
        assert records.material_id[row] == record["material_id"].decode()
        assert records.formula[row] == record["formula"].decode()
        assert records.labels["debye_temperature"][row] == pytest.approx(
            float(record["targets"]["debye_temperature"]), nan_ok=True
        )
        assert records.labels["is_metal"][row] == record["targets"]["is_metal"]
        assert records.volume[row] == pytest.approx(float(record["targets"]["volume"]), rel=1e-5)
        density = records.density(row)
        assert density.shape == (24, 24, 24, 2)
        np.testing.assert_array_equal(density[..., :1], record["density"][..., :1])
        if record["density"].shape[-1] == 2:
            np.testing.assert_array_equal(density, record["density"])
            moment = float(record["targets"]["magnetic_moment"])
            assert records.moment[row] == pytest.approx(moment, abs=1e-3)
        else:
            assert not density[..., 1].any()
            assert records.moment[row] == 0


def test_reading_on_demand_gives_the_cached_densities(builder, records):
    lazy = load(builder, cache_in_memory=False)
    assert lazy.densities is None
    for row in (0, 7, 17):
        np.testing.assert_array_equal(lazy.density(row), records.density(row))


def test_one_channel_and_spin_polarised_only(builder, records):
    spin = load(builder, spin_polarized_only=True, cache_in_memory=False, channels=1)
    assert 0 < len(spin) < len(records)
    assert (spin.moment > 0.5).any()
    for row, index in enumerate(spin.index):
        expected = records.density(list(records.index).index(index))
        np.testing.assert_array_equal(spin.density(row), expected[..., :1])


def test_species_of_each_cell(builder, records):
    stored = {
        r["index"]: r["species"] for fold in FOLDS for r in builder.as_data_source(split=fold)
    }
    assert len(records.species) == 18
    for row, index in enumerate(records.index):
        np.testing.assert_array_equal(records.species[row], stored[index])
    assert len(list(records.species)) == 18  # as a sequence, for np.concatenate
    spin = load(builder, spin_polarized_only=True, cache_in_memory=False)
    for row, index in enumerate(spin.index):
        np.testing.assert_array_equal(spin.species[row], stored[index])


def test_an_infinite_label_is_refused(builder, monkeypatch):
    columns = {fold: dict(pipeline.read_index(builder, fold)) for fold in FOLDS}
    values = columns["fold3"]["targets/volume"].copy()
    values[2] = np.inf
    columns["fold3"]["targets/volume"] = values
    monkeypatch.setattr(pipeline, "read_index", lambda _, fold: columns[fold])
    worst = columns["fold3"]["material_id"][2]
    with pytest.raises(
        pipeline.DatasetError, match=f"target 'volume' of {worst} in .* is infinite"
    ):
        load(builder)


def test_labels_are_intensive_standardised_and_masked(records):
    mean, std = np.array([2.0, 300.0, 0.0]), np.array([0.5, 100.0, 1.0])
    labels, mask = pipeline.training_labels(records, SPECS, mean, std)
    missing = np.isnan(records.labels["debye_temperature"])
    assert 0 < missing.sum() < 18
    np.testing.assert_array_equal(mask, np.stack([np.ones(18), ~missing, np.ones(18)], axis=1))
    per_electron = records.labels["volume"] / records.num_electrons
    np.testing.assert_allclose(labels[:, 0], (per_electron - 2) / 0.5, rtol=1e-5)
    debye = np.where(missing, 0, (records.labels["debye_temperature"] - 300) / 100)
    np.testing.assert_allclose(labels[:, 1], debye, rtol=1e-5)
    np.testing.assert_array_equal(labels[:, 2], records.labels["is_metal"])

    classes = records.labels | {"is_metal": np.where(np.arange(18) < 5, -1, 1)}
    fewer = dataclasses.replace(records, labels=classes)
    labels, mask = pipeline.training_labels(fewer, SPECS, mean, std)
    np.testing.assert_array_equal(mask[:, 2], np.arange(18) >= 5)
    np.testing.assert_array_equal(labels[:, 2], np.arange(18) >= 5)


def test_epoch_order_is_a_pure_function_of_seed_and_epoch():
    order = pipeline.epoch_order(3, 5, 40)
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(order, pipeline.epoch_order(3, 5, 40))
    for other in [(3, 6), (4, 5), (5, 3)]:
        assert (order != pipeline.epoch_order(*other, 40)).any()
    np.testing.assert_array_equal(order, np.random.default_rng([3, 5]).permutation(40))
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1  # it is shared by all batches of the epoch


def test_every_epoch_visits_every_row_once(source, records):
    assert (source.steps_per_epoch, len(source)) == (3, 9)
    epochs = []
    for epoch in range(3):
        batches = [source[3 * epoch + i] for i in range(3)]
        assert all(len(batch["index"]) == 8 for batch in batches)
        seen = [i for b in batches for i, m in zip(b["index"], b["mask"]) if m.any()]
        assert sorted(seen) == sorted(records.index)
        assert not batches[2]["mask"][2:].any()
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    assert_same(source[4], source[4])


def test_a_batch_gathers_rows(source, records):
    batch = source[4]
    for i, index in enumerate(batch["index"]):
        row = list(records.index).index(index)
        np.testing.assert_array_equal(batch["density"][i], records.density(row))
        np.testing.assert_array_equal(batch["lattice"][i], records.lattice[row].astype("f4"))
        np.testing.assert_array_equal(batch["labels"][i], source.labels[row])
        np.testing.assert_array_equal(batch["mask"][i], source.mask[row])
        assert batch["num_electrons"][i] == np.float32(records.num_electrons[row])
    for name, leaf in batch.items():
        assert leaf.dtype == (np.int32 if name == "index" else np.float32)


def test_hosts_share_the_global_batch(source):
    shares = [dataclasses.replace(source, host=host, num_hosts=4) for host in range(4)]
    for step in range(3):
        together = jax.tree.map(lambda *x: np.concatenate(x), *[share[step] for share in shares])
        assert_same(together, source[step])


@pytest.mark.parametrize(("start", "threads"), [(0, 2), (4, 1), (9, 2)])
def test_iteration_may_start_at_any_step(source, start, threads):
    batches = list(pipeline.iterate_batches(source, start, threads))
    assert len(batches) == 9 - start
    for batch, step in zip(batches, range(start, 9)):
        assert_same(batch, source[step])


def test_evaluation_takes_every_record_once_in_order(records):
    batches = list(pipeline.evaluation_batches(records, 5))
    assert [len(batch["lattice"]) for batch in batches] == [5, 5, 5, 3]
    one_by_one = pipeline.evaluation_batches(records, 5, num_threads=1)
    for a, b in zip(batches, one_by_one, strict=True):
        assert_same(a, b)
    together = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    assert together.keys() == {"density", "lattice", "num_electrons"}
    np.testing.assert_array_equal(together["lattice"], records.lattice.astype(np.float32))
    np.testing.assert_array_equal(together["density"][16], records.density(16))


def test_wrong_splits_targets_and_datasets_are_named(builder, tmp_path):
    message = r"split 'fold9' is not in dataset elastic_densities/grid24.*fold0, .*fold4"
    with pytest.raises(pipeline.DatasetError, match=message):
        load(builder, folds=["fold0", "fold9"])
    with pytest.raises(pipeline.DatasetError, match=r"target 'is_stable' is not in .*band_gap, "):
        load(builder, specs=get_specs(["is_stable"]))
    with pytest.raises(
        pipeline.DatasetError, match=r"config\.data\.name: unknown dataset 'qm9'"
    ):
        pipeline.open_dataset("qm9/grid24", str(tmp_path), build=True)
    message = f"is not in config.data.data_dir='{tmp_path}'; build it with 'python -m tfds_"
    with pytest.raises(pipeline.DatasetError, match=message):
        pipeline.open_dataset(NAME, str(tmp_path), build=False)
