import numpy as np
import pytest

from densityjax.data.dataset import open_dataset
from densityjax.target_grouping.columns import Column, GroupingError
from densityjax.target_grouping.select import group_fold, load_columns, rotate_folds
from densityjax.targets import get_specs
from tests.target_grouping.labels import shipped_columns
from tests.target_grouping.small_groups import NAME, config_of, settings


def test_labels_are_compared_as_trained(data):
    """Volume and total energy per electron, not of the cell, which would be alike by its size."""
    config = config_of(data, ("volume", "total_energy"))
    builder = open_dataset(NAME, str(data), build=False)
    specs = get_specs(config.targets)
    columns, systems = load_columns(config, builder, specs, (4, 0))
    found = {}
    for split in ("fold4", "fold0"):
        for record in builder.as_data_source(split):
            labels = record["targets"]
            found[record["chemical_system"].decode()] = (
                labels["volume"] / record["num_electrons"],
                labels["total_energy"] / record["num_electrons"],
            )
    assert len(columns[0].values) == len(systems) == 20
    for system, *values in zip(systems, columns[0].values, columns[1].values, strict=True):
        if list(systems).count(system) == 1:
            assert values == pytest.approx(found[system], rel=1e-6)


@pytest.mark.slow
def test_values_and_classes_together():
    columns, systems = shipped_columns(["bulk_modulus", "band_gap", "is_metal", "crystal_system"])
    names = ("pearson", "spearman", "distance_correlation", "mutual_information")
    result = group_fold(columns, systems, settings(similarities=names), (2, 3, 4))
    assert (result.num_materials, result.num_systems) == (len(systems), len(set(systems)))
    for grouping in result.measures.values():
        assert np.all(grouping.similarity.p_adjusted[1, 2] < 0.05)  # metals have no gap
        assert (1, 2) in [group[:2] for group in grouping.clustering.groups] or any(
            {1, 2} <= set(group) for group in grouping.clustering.groups
        )
        assert np.all(grouping.stability.jaccard > 0)


def test_number_of_groups_can_be_given():
    columns, systems = shipped_columns(["bulk_modulus", "band_gap", "density", "fermi_energy"])
    for number in (1, 3, 4):
        given = settings(similarities=("pearson",), num_groups=number)
        grouping = group_fold(columns, systems, given, (2, 3, 4)).measures["spearman"]
        assert len(grouping.clustering.groups) == number
        assert grouping.stability.num_groups == {number: 1.0}
        if number in (1, 4):
            assert np.all(grouping.stability.jaccard == 1)


def test_one_target_is_one_group():
    columns, systems = shipped_columns(["bulk_modulus"])
    grouping = group_fold(columns, systems, settings(similarities=()), (2, 3, 4)).measures[
        "spearman"
    ]
    assert grouping.clustering.groups == ((0,),)


def test_one_value_only():
    columns, systems = shipped_columns(["bulk_modulus", "is_metal"])
    columns[1] = Column(columns[1].spec, np.ones_like(columns[1].values))
    with pytest.raises(GroupingError, match="'is_metal' has 491 labels and no two different"):
        group_fold(columns, systems, settings(), (2, 3, 4))


def test_folds_rotate():
    assert rotate_folds(3) == {0: (2,), 1: (0,), 2: (1,)}
    with pytest.raises(GroupingError, match="2 folds leaves none to train on"):
        rotate_folds(2)
