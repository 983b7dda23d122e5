"""What a config says of groups becomes a partition of its targets, or an error with the remedy."""

import itertools
import math
from pathlib import Path

import pytest

from densityjax.training.groups import (
    DatasetIdentity,
    GroupsError,
    random_partition,
    read_groups_file,
    resolve_groups,
    spell,
)

TARGETS = ("bulk_modulus", "volume", "fermi_energy", "band_gap")
IDENTITY = DatasetIdentity("elastic_densities", "1.0.0", "abcd")
TEXT = '''"""Generated."""

DATASET = "elastic_densities"
VERSION = "1.0.0"
FINGERPRINT = "abcd"
TARGETS = ("bulk_modulus", "volume", "fermi_energy", "band_gap")
TRAIN_FOLDS = {0: (2, 3, 4), 1: (3, 4, 0)}
SETTINGS = {"similarity": "spearman"}
GROUPS = {
    0: (("bulk_modulus", "fermi_energy"), ("volume", "band_gap")),
    1: (("bulk_modulus", "volume", "fermi_energy"), ("band_gap",)),
}
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "groups.py"
    path.write_text(TEXT)
    return path


def resolve(text, targets=TARGETS, test_fold=0, train_folds=(2, 3, 4), identity=IDENTITY, **kwargs):
    return resolve_groups(
        str(text), targets, test_fold=test_fold, train_folds=train_folds, identity=identity,
        **kwargs,
    )


def test_words():
    assert resolve("all") == (TARGETS,)
    assert resolve("single") == tuple((name,) for name in TARGETS)


def test_spelled_groups_take_the_order_of_the_targets():
    groups = resolve("band_gap+volume, fermi_energy+bulk_modulus")
    assert groups == (("bulk_modulus", "fermi_energy"), ("volume", "band_gap"))
    assert resolve(spell(groups)) == groups
    assert isinstance(hash(groups), int)


def test_file_gives_the_groups_of_the_fold(path):
    assert resolve(path) == (("bulk_modulus", "fermi_energy"), ("volume", "band_gap"))
    of_fold1 = resolve(path, test_fold=1, train_folds=(0, 3, 4))
    assert of_fold1 == (("bulk_modulus", "volume", "fermi_energy"), ("band_gap",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": DatasetIdentity("elastic_densities", "1.0.1", "abcd")}, "1.0.1"),
        ({"identity": DatasetIdentity("elastic_densities", "1.0.0", "ffff")}, "ffff"),
        ({"targets": (*TARGETS, "density")}, "density"),
        ({"targets": TARGETS[:3]}, "band_gap"),
        ({"test_fold": 2, "train_folds": (4, 0, 1)}, "test_fold=2"),
        ({"train_folds": (1, 2, 3)}, "train_folds"),
        ({"held_out_elements": ("O",)}, "held_out_elements"),
    ],
)
def test_a_file_for_something_else_is_refused(path, change, message):
    with pytest.raises(GroupsError, match=message):
        resolve(path, **change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bulk_modulus+volume+fermi_energy+band_gap+colour", "colour"),
        ("bulk_modulus+volume+fermi_energy", "leaves out band_gap"),
        ("bulk_modulus+volume,volume+fermi_energy+band_gap", "more than one place"),
        ("missing.py", "target_grouping"),
    ],
)
def test_groups_that_are_no_partition(text, message):
    with pytest.raises(GroupsError, match=message):
        resolve(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("GROUPS = {", "GROUPS = {(", "damaged"),
        ('VERSION = "1.0.0"', "", "VERSION"),
        ('VERSION = "1.0.0"', "VERSION = open('x').read()", "literal"),
        ("{0: (2, 3, 4), ", "{", "TRAIN_FOLDS"),
    ],
)
def test_damaged_file(path, old, new, message):
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(GroupsError, match=message):
        read_groups_file(path)


def test_random_partitions_are_all_others_of_the_same_sizes(path):
    similar = resolve(path)
    count = math.comb(4, 2) // 2  # ways to split four into two pairs
    found = [resolve(f"random {number} of {path}") for number in range(count - 1)]
    assert len({similar, *found}) == count
    assert all(sorted(map(len, groups)) == [2, 2] for groups in found)
    assert all(set(itertools.chain(*groups)) == set(TARGETS) for groups in found)
    with pytest.raises(GroupsError, match="no random partition"):
        random_partition(similar, TARGETS, count - 1)


def test_the_committed_file_fits_the_default_config():
    from densityjax.configs import elastic

    config = elastic.get_config()
    file = read_groups_file(Path(__file__).parents[2] / "configs" / "target_groups.py")
    for fold in range(5):
        others = tuple((fold + step) % 5 for step in (2, 3, 4))
        groups = file.for_run(tuple(config.targets), fold, others, file.identity)
        assert sorted(itertools.chain(*groups)) == sorted(config.targets)
