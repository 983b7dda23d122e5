import dataclasses

import numpy as np
import pytest

from densityjax.data.batches import training_labels
from densityjax.data.dataset import DatasetError, open_dataset
from densityjax.data.records import field_rows, load_records
from densityjax.step.scalers import MAX_FIELDS, Statistics, fit_statistics
from densityjax.targets import get_specs

SPECS = get_specs(["total_energy", "debye_temperature", "crystal_system"])


@pytest.fixture(scope="module")
def builder(small_dataset):
    return open_dataset("elastic_densities/grid24", str(small_dataset), build=False)


def load(builder, folds):
    return load_records(
        builder, folds, SPECS, channels=2, spin_polarized_only=False, cache_in_memory=True
    )


@pytest.fixture(scope="module")
def records(builder):
    return load(builder, ["fold2", "fold3"])


def fit(records, specs=SPECS, **changes):
    options = dict(
        field_transform="log", log_clamp=1e-3, lattice_feature_kind="metric", balance_classes=True
    )
    return fit_statistics(records, specs, **options | changes)


def same(a, b):
    a, b = dataclasses.asdict(a), dataclasses.asdict(b)
    weights = a.pop("class_weights"), b.pop("class_weights")
    assert weights[0].keys() == weights[1].keys()
    return all(np.array_equal(x, y) for x, y in zip(a.values(), b.values())) and all(
        np.array_equal(weights[0][k], weights[1][k]) for k in weights[0]
    )


def test_training_labels_have_zero_mean_and_unit_variance(records):
    statistics = fit(records)
    labels, mask = training_labels(records, SPECS, statistics.label_mean, statistics.label_std)
    for column in (0, 1):
        present = labels[mask[:, column] > 0, column]
        assert present.mean() == pytest.approx(0, abs=1e-5)
        assert present.std() == pytest.approx(1, rel=1e-5)
    assert mask[:, 1].sum() < len(records)
    per_electron = records.labels["total_energy"] / records.num_electrons
    assert statistics.label_mean[0] == pytest.approx(per_electron.mean())
    assert (statistics.label_mean[2], statistics.label_std[2]) == (0, 1)


def test_they_come_from_the_records_given_and_from_all_of_them(builder, records):
    assert same(fit(records), fit(load(builder, ["fold2", "fold3"])))
    other = load(builder, ["fold2", "fold4"])
    assert not same(fit(records, SPECS[:2]), fit(other, SPECS[:2]))
    order = np.arange(len(records))[::-1]
    reversed_ = dataclasses.replace(
        records,
        densities=tuple(records.densities[i] for i in order),
        labels={name: values[order] for name, values in records.labels.items()},
        num_electrons=records.num_electrons[order],
        lattice=records.lattice[order],
    )
    for a, b in zip(fit(records).arrays().values(), fit(reversed_).arrays().values()):
        if not isinstance(a, dict):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("transform", ["linear", "log"])
def test_field_scalers_against_numpy(records, transform):
    statistics = fit(records, field_transform=transform, log_clamp=0.01)
    fields = np.stack(records.densities).astype(float)
    charge = fields[..., 0] if transform == "linear" else np.log(np.maximum(fields[..., 0], 0.01))
    assert statistics.field_mean[0] == pytest.approx(charge.mean(), rel=1e-5)
    assert statistics.field_std[0] == pytest.approx(charge.std(), rel=1e-5)
    assert statistics.field_mean[1] == 0
    spread = np.sqrt(np.square(fields[..., 1]).mean())
    assert statistics.field_std[1] == pytest.approx(spread, rel=1e-4)


def test_field_scalers_of_a_large_dataset_come_from_a_fixed_draw(builder, records):
    assert field_rows(MAX_FIELDS, MAX_FIELDS).tolist() == list(range(MAX_FIELDS))
    drawn = field_rows(100_000, MAX_FIELDS)
    assert len(np.unique(drawn)) == MAX_FIELDS
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_allclose(drawn.mean(), 50_000, rtol=0.05)  # from everywhere
    np.testing.assert_array_equal(drawn, field_rows(100_000, MAX_FIELDS))

    read = []
    lazy = dataclasses.replace(records, densities=_Noted(records.densities, read))
    some = fit(lazy, field_transform="linear", max_fields=5)
    assert read == field_rows(12, 5).tolist() != list(range(5))
    fields = np.stack([records.densities[row] for row in read]).astype(float)
    assert some.field_mean[0] == pytest.approx(fields[..., 0].mean(), rel=1e-5)
    assert some.field_std[0] == pytest.approx(fields[..., 0].std(), rel=1e-5)
    # All else is fitted to all rows, and up to the limit the fields are too.
    every = fit(records, field_transform="linear")
    for name in ("label_mean", "label_std", "feature_mean", "feature_std"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name))
    assert same(every, fit(records, field_transform="linear", max_fields=12))
    assert not same(every, some)


class _Noted(tuple):
    """Densities that note which of them are looked at."""

    def __new__(cls, values, read):
        new = super().__new__(cls, values)
        new.read = read
        return new

    def __getitem__(self, row):
        self.read.append(int(row))
        return super().__getitem__(row)


def test_both_transforms_of_the_charge_are_scaled(records):
    both, log, linear = (
        fit(records, field_transform=name) for name in ("log_and_linear", "log", "linear")
    )
    for name in ("field_mean", "field_std"):
        expected = [getattr(log, name)[0], *getattr(linear, name)]
        np.testing.assert_allclose(getattr(both, name), expected, rtol=1e-6)


def test_lattice_features_are_scaled(records):
    statistics = fit(records)
    logarithm = np.log(records.volume / records.num_electrons)
    assert statistics.feature_mean[0] == pytest.approx(logarithm.mean(), rel=1e-5)
    assert statistics.feature_std[0] == pytest.approx(logarithm.std(), rel=1e-4)
    assert statistics.feature_mean.shape == (4,)
    assert fit(records, lattice_feature_kind="none").feature_std.shape == (0,)


def test_class_weights(records):
    labels = np.array([0, 0, 0, 6, 6, 2, -1, -1, 0, 0, 0, 0])
    changed = dataclasses.replace(records, labels=records.labels | {"crystal_system": labels})
    weights = fit(changed).class_weights["crystal_system"]
    np.testing.assert_allclose(weights[[0, 6, 2]], [10 / 21, 10 / 6, 10 / 3])
    present = labels[labels >= 0]
    assert weights[present].mean() == pytest.approx(1)  # the loss keeps its scale
    plain = fit(changed, balance_classes=False).class_weights["crystal_system"]
    np.testing.assert_array_equal(plain, np.ones(7))


def test_saving_is_exact(records, tmp_path):
    statistics = fit(records)
    statistics.save(tmp_path / "statistics.json")
    assert same(Statistics.load(tmp_path / "statistics.json"), statistics)
    arrays = statistics.arrays()
    assert arrays["field_mean"].dtype == arrays["class_weights"]["crystal_system"].dtype == "f4"


@pytest.mark.parametrize(
    ("name", "labels", "count"),
    [
        ("debye_temperature", np.full(12, 300.0), 12),
        ("debye_temperature", np.full(12, np.nan), 0),
        ("crystal_system", np.where(np.arange(12) < 4, 3, -1), 4),
    ],
)
def test_a_target_without_two_values_is_refused(records, name, labels, count):
    changed = dataclasses.replace(records, labels=records.labels | {name: labels})
    with pytest.raises(DatasetError, match=f"'{name}' has {count} labels and no two different"):
        fit(changed)
