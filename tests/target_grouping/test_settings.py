import dataclasses

import pytest

from densityjax.configs import elastic
from densityjax.runtime.errors import ConfigError
from densityjax.target_grouping.settings import Settings
from tests.target_grouping.small_groups import settings


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"similarity": "kendall"}, "unknown similarity 'kendall' .* known are pearson"),
        ({"similarities": ("spearmen",)}, "unknown similarity 'spearmen'"),
        ({"permutations": 9}, "permutations=9: must be at least 99"),
        ({"bootstraps": 0}, "bootstraps=0: must be at least 1"),
        ({"num_groups": -1}, "num_groups=-1: must be at least 0"),
    ],
)
def test_wrong_settings(changes, match):
    with pytest.raises(ConfigError, match=match):
        settings(**changes)


def test_settings_are_all_of_the_config():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert names == set(elastic.get_config().grouping)
