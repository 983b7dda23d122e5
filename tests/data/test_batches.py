import dataclasses

import jax
import numpy as np
import pytest

from densityjax.data.batches import (
    BatchSource,
    epoch_order,
    evaluation_batches,
    iterate_batches,
    training_labels,
)
from tests.data.loading import SPECS


@pytest.fixture(scope="module")
def source(records):
    labels, mask = training_labels(records, SPECS, np.zeros(3), np.ones(3))
    return BatchSource(records, labels, mask, 7, 8, 9, 0, 1)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_labels_are_intensive_standardised_and_masked(records):
    mean, std = np.array([2.0, 300.0, 0.0]), np.array([0.5, 100.0, 1.0])
    labels, mask = training_labels(records, SPECS, mean, std)
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
    labels, mask = training_labels(fewer, SPECS, mean, std)
    np.testing.assert_array_equal(mask[:, 2], np.arange(18) >= 5)
    np.testing.assert_array_equal(labels[:, 2], np.arange(18) >= 5)


def test_epoch_order_is_a_pure_function_of_seed_and_epoch():
    order = epoch_order(3, 5, 40)
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(order, epoch_order(3, 5, 40))
    for other in [(3, 6), (4, 5), (5, 3)]:
        assert (order != epoch_order(*other, 40)).any()
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
    batches = list(iterate_batches(source, start, threads))
    assert len(batches) == 9 - start
    for batch, step in zip(batches, range(start, 9)):
        assert_same(batch, source[step])


def test_evaluation_takes_every_record_once_in_order(records):
    batches = list(evaluation_batches(records, 5))
    assert [len(batch["lattice"]) for batch in batches] == [5, 5, 5, 3]
    one_by_one = evaluation_batches(records, 5, num_threads=1)
    for a, b in zip(batches, one_by_one, strict=True):
        assert_same(a, b)
    together = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    assert together.keys() == {"density", "lattice", "num_electrons", "descriptors"}
    np.testing.assert_array_equal(together["lattice"], records.lattice.astype(np.float32))
    np.testing.assert_array_equal(together["density"][16], records.density(16))
