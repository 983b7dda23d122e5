"""Intervals hold the truth in most of 20 designs; docs/statistics.md has the studies of 1000."""

import pytest

from benchmarks.interval_coverage import averages, coverage, differences


@pytest.mark.parametrize("study", [differences, averages])
def test_most_intervals_hold_the_truth(study):
    found = coverage(study(20, 200))
    assert found["designs"] == 20
    assert found["basic"] >= 0.8  # 95 % intervals do worse in 3 of 1000 such checks
    assert 0 < found["mean_width"] < 0.5
