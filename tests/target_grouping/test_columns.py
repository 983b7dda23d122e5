import numpy as np
import pytest

from densityjax.target_grouping.columns import (
    Column,
    GroupingError,
    find_overlap,
    resample_systems,
)
from tests.target_grouping.labels import BULK, METAL, SHEAR


def test_resamples_move_systems_as_a_whole():
    systems = np.array(["A", "B", "B", "C", "D", "D", "E"])
    for half in (True, False):
        counts = resample_systems(systems, 500, 0, half)
        assert np.all(counts[:, 1] == counts[:, 2])
        assert np.all(counts[:, 4] == counts[:, 5])
        drawn = counts[:, [0, 1, 3, 4, 6]].sum(1)
        assert set(drawn) == {2 if half else 5}
        assert counts.max() == (1 if half else counts.max())
    assert counts[:, 0].mean() == pytest.approx(1, abs=0.15)


def test_overlap_counts_and_flags():
    x = np.arange(100.0)
    a, b, c = x.copy(), x.copy(), x.copy()
    a[80:], b[:20], c[:60] = np.nan, np.nan, np.nan
    overlap = find_overlap([Column(BULK, a), Column(SHEAR, b), Column(BULK, c)])
    np.testing.assert_array_equal(overlap.shared, [[80, 60, 20], [60, 80, 40], [20, 40, 40]])
    assert overlap.fraction[0, 1] == pytest.approx(0.6)
    assert overlap.fraction[0, 2] == pytest.approx(0.2)
    assert np.argwhere(overlap.low).tolist() == [[0, 2], [2, 0]]


def test_errors_name_targets_and_remedy():
    x = np.arange(40.0)
    few = np.where(x < 19, x, np.nan)
    match = "'bulk_modulus' and 'shear_modulus' share 19 labelled materials .* needs 20: leave one"
    with pytest.raises(GroupingError, match=match):
        find_overlap([Column(BULK, x), Column(SHEAR, few)])
    with pytest.raises(GroupingError, match="'is_metal' has 40 labels and no two different"):
        find_overlap([Column(BULK, x), Column(METAL, np.ones(40, int))])
    part = np.where(x < 25, x, np.nan)
    metal = (x >= 30).astype(int)
    match = "'is_metal' has no two different labels among the 25 materials .* with 'bulk_modulus'"
    with pytest.raises(GroupingError, match=match):
        find_overlap([Column(BULK, part), Column(METAL, metal)])
