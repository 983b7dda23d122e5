"""Weights on the simplex, against another solver and by hand."""

import numpy as np
from scipy.optimize import minimize

from densityjax.modules.weights import bootstrap_weights, resampled_counts, simplex_weights


def _problem(seed: int, modules: int = 6, rows: int = 25):
    draw = np.random.default_rng(seed)
    labels = draw.normal(size=(rows, 1))
    noise = draw.uniform(0.3, 2.0, (modules, 1, 1))
    return labels + noise * draw.normal(size=(modules, rows, 1)), labels


def test_weights_are_those_of_another_solver():
    for seed in range(3):
        predictions, labels = _problem(seed)
        counts = np.random.default_rng(seed).integers(0, 3, len(labels))

        def loss(weights, predictions=predictions, labels=labels, counts=counts):
            said = np.tensordot(weights, predictions, 1)
            return (counts[:, None] * (said - labels) ** 2).sum()

        found = simplex_weights(predictions, labels, counts)
        other = minimize(
            loss, np.full(6, 1 / 6), method="SLSQP", bounds=[(0, 1)] * 6,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert found.min() >= 0
        assert abs(found.sum() - 1) < 1e-12
        np.testing.assert_allclose(found, other.x, atol=2e-4)


def test_two_modules_by_hand():
    """The best point of a line, w = <y - b, a - b> / |a - b|^2, cut at its ends."""
    a, b = np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])
    for share in (0.3, 0.9, 1.4):
        labels = share * a + (1 - share) * b
        found = simplex_weights(np.stack([a, b])[..., None], labels[:, None])
        np.testing.assert_allclose(found, [min(share, 1), max(1 - share, 0)], atol=1e-7)


def test_a_resample_draws_whole_systems():
    """Of two systems one module knows each: the weights follow which are drawn."""
    labels = np.array([1.0, 1.0, -1.0, -1.0])[:, None]
    predictions = np.stack([np.ones(4), -np.ones(4)])[..., None]
    counts = resampled_counts(np.array(["a", "a", "b", "b"]), 40, 0)
    draws = bootstrap_weights(predictions, labels, counts)
    found = {tuple(np.round(row, 6)) for row in draws}
    assert found == {(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)}
