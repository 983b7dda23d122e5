import numpy as np
import pytest

from densityjax.target_grouping.columns import GroupingError
from densityjax.target_grouping.series import compare_series


def test_series_by_hand():
    series = np.zeros((4, 2, 2))
    series[:, 0, 0], series[:, 1, 1] = 0.2, 0.4
    series[:, 0, 1] = [0.1, 0.2, 0.3, 0.2]  # effect of steps on the first on the second's loss
    series[:, 1, 0] = 0.1
    result = compare_series(series, scale_columns=True, permutations=999, seed=0)
    np.testing.assert_allclose(result.directed, [[1, 0.5], [0.5, 1]])
    assert result.values[0, 1] == pytest.approx(0.5)
    assert result.p[0, 1] == 1 / 16  # of all 2^4 flips only the observed one
    worse = compare_series(-series, scale_columns=True, permutations=999, seed=0)
    assert worse.values[0, 1] == 0
    assert worse.signed[0, 1] == pytest.approx(-0.5)
    assert worse.p[0, 1] == 1
    long = compare_series(
        np.tile(series, (10, 1, 1)), scale_columns=False, permutations=199, seed=0
    )
    assert long.p[0, 1] == 1 / 200
    assert long.values[0, 1] == pytest.approx(0.15)


def test_series_must_be_numbers():
    with pytest.raises(GroupingError, match="not finite"):
        compare_series(np.full((3, 2, 2), np.nan), scale_columns=False, permutations=99, seed=0)
