"""Draws against known variances; intervals and p against their definition."""

import numpy as np
import pytest
from scipy import stats

from densityjax.ablation.bootstrap import DETECTABLE, Draws, two_sided_p
from densityjax.ablation.compare import compare
from tests.ablation.designs import SPECS, basic, design, made


def test_p_is_where_the_interval_touches_zero():
    rng = np.random.default_rng(0)
    for shift in (-2.0, -0.3, 0.5, 1.5):
        values = np.r_[shift + 0.2, rng.gamma(4, 0.5, 20_000) - 2 + shift]  # skewed and biased
        low, high = basic(values[0], values[1:], 1 - two_sided_p(values))
        assert min(abs(low), abs(high)) < 0.01
    assert two_sided_p(np.r_[5.0, rng.normal(5, 0.1, 100)]) == pytest.approx(2 / 101)
    assert two_sided_p(np.zeros(100)) == 1


def test_draws():
    cell = design(size=60, systems=15)[0]
    samples = Draws({"fold0": cell.systems}, 20_000, 3)
    systems = samples.systems("fold0")
    assert systems.shape == (20_001, len(np.unique(cell.systems)))
    assert np.all(systems[0] == 1)
    assert np.all(systems.sum(1) == systems.shape[1])
    for seeds in ((4, 5), (1, 2, 3), (1, 2, 3, 4, 5)):
        weights, n = samples.seeds("fold0", seeds), len(seeds)
        np.testing.assert_allclose(weights.sum(0), 1)
        np.testing.assert_allclose(weights[:, 0], 1 / n)
        # So that the variance of a mean is the unbiased s^2 / n: weights vary by 1 / n^2.
        np.testing.assert_allclose(weights[:, 1:].mean(1), 1 / n, atol=0.01)
        np.testing.assert_allclose(weights[:, 1:].var(1), 1 / n**2, rtol=0.05)
    assert np.all(samples.seeds("fold0", (7,)) == 1)


def test_variance_between_seeds_is_unbiased():
    """Where materials tell nothing, the standard error is that of a mean of n seeds."""
    truth = np.tile([-1.0, 1.0], 100)
    for n in (2, 3, 5):
        levels = np.random.default_rng(n).uniform(0.2, 0.8, n)
        cells = [made("a", s, truth, np.zeros(200)) for s in range(n)]
        cells += [made("b", s, truth, np.full(200, level)) for s, level in enumerate(levels)]
        row = compare(cells, SPECS[:1], "a", replicates=8000).contrast("b").rows[0]
        scores = -(levels**2)  # R2 of a constant error, less that of none
        assert row.value == pytest.approx(scores.mean())
        assert row.se == pytest.approx(scores.std(ddof=1) / n**0.5, rel=0.03)


def test_detectable_difference_has_the_power_it_says():
    """A normal estimate whose truth is 2.80 standard errors from 0 is found four times in five."""
    power = stats.norm.sf(stats.norm.ppf(0.975) - DETECTABLE)
    assert power == pytest.approx(0.8, abs=1e-4)
