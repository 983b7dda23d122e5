import numpy as np
import pytest

from densityjax.data import records as records_module
from densityjax.data.dataset import DatasetError, fingerprint
from densityjax.data.record_index import read_index
from densityjax.density.core import seen_record
from densityjax.features.invariants import record_invariants
from densityjax.targets import get_specs
from tests.data.loading import FOLDS, load


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


@pytest.mark.parametrize("cached", [True, False])
def test_all_of_a_run_sees_the_same_of_the_cores(builder, cached):
    stored = {r["index"]: r for r in builder.as_data_source(split="fold2")}
    plain = load(builder, ["fold2"], cache_in_memory=False)
    records = load(
        builder, ["fold2"], cache_in_memory=cached, channels=1, core="charge", features=True
    )
    for row, index in enumerate(records.index):
        seen = seen_record(stored[index], "charge")
        np.testing.assert_array_equal(records.density(row), seen["density"][..., :1])
        np.testing.assert_array_equal(
            records.features["invariants"][row], record_invariants(seen)
        )
        assert records.moment[row] == plain.moment[row]


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
    columns = {fold: dict(read_index(builder, fold, fingerprint(builder))) for fold in FOLDS}
    values = columns["fold3"]["targets/volume"].copy()
    values[2] = np.inf
    columns["fold3"]["targets/volume"] = values
    monkeypatch.setattr(records_module, "read_index", lambda _, fold, identity: columns[fold])
    worst = columns["fold3"]["material_id"][2]
    with pytest.raises(
        DatasetError, match=f"target 'volume' of {worst} in .* is infinite"
    ):
        load(builder)


def test_wrong_splits_and_targets_are_named(builder):
    message = r"split 'fold9' is not in dataset elastic_densities/grid24.*fold0, .*fold4"
    with pytest.raises(DatasetError, match=message):
        load(builder, folds=["fold0", "fold9"])
    with pytest.raises(DatasetError, match=r"target 'is_stable' is not in .*band_gap, "):
        load(builder, specs=get_specs(["is_stable"]))


def test_a_share_of_the_systems_is_part_of_a_larger_share(builder):
    whole = load(builder, cache_in_memory=False)
    sizes, seen = [], set()
    for share in (0.25, 0.5, 1.0):
        records = load(builder, cache_in_memory=False, fraction=(share, 3))
        systems = set(records.chemical_system)
        assert seen <= systems
        # A system is in as a whole, or not at all.
        assert len(records) == np.isin(whole.chemical_system, list(systems)).sum()
        seen = systems
        sizes.append(len(systems))
    assert sizes == [round(share * sizes[-1]) for share in (0.25, 0.5, 1.0)]
    assert sizes[-1] == len(set(whole.chemical_system))
    other = load(builder, cache_in_memory=False, fraction=(0.5, 4))
    assert set(other.chemical_system) != set(
        load(builder, cache_in_memory=False, fraction=(0.5, 3)).chemical_system
    )
