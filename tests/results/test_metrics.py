"""Metrics against formulas written out by hand, and the edges where they are undefined."""

import itertools
import json

import numpy as np
import pytest

from densityjax.results.metrics import (
    NotFiniteError,
    average_r2,
    classification_metrics,
    regression_metrics,
    target_metrics,
)
from densityjax.targets import get_specs


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, ties counting half."""
    pairs = itertools.product(score[positive], score[~positive])
    return float(np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs]))


def _average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """Mean over positives of the precision at their rank (scores without ties)."""
    hits = positive[np.argsort(-score)]
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(precision[hits].mean())


def test_regression_known_values():
    result = regression_metrics(np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.0, 3.0, 3.0, 4.0]))
    assert result == {"r2": pytest.approx(1 - 5 / 14), "mae": 0.75, "rmse": 1.25**0.5, "n": 4}


def test_missing_labels_do_not_count_even_beside_bad_predictions():
    full = regression_metrics(np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0]))
    padded = regression_metrics(
        np.array([1.0, np.nan, 2.0, 4.0, np.nan]), np.array([1.5, 1e9, 2.0, 3.0, np.nan])
    )
    assert padded == full


@pytest.mark.parametrize("truth", [[], [np.nan], [3.0], [3.0, 3.0, np.nan]])
def test_undefined_r2_is_none(truth):
    result = regression_metrics(np.array(truth), np.full(len(truth), 2.0))
    assert result["r2"] is None
    assert result["n"] == np.sum(np.isfinite(truth))
    json.dumps(result, allow_nan=False)


def test_float32_labels_of_a_narrow_target_keep_their_r2():
    """A mean of 1e4 and a spread of 1e-1 would lose R2 in float32 sums."""
    rng = np.random.default_rng(0)
    truth = (1e4 + rng.normal(0, 0.1, 500)).astype(np.float32)
    prediction = truth + rng.normal(0, 0.05, 500)
    assert regression_metrics(truth, prediction)["r2"] == pytest.approx(0.75, abs=0.05)


def test_binary_scores():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 60)
    score = np.clip(0.3 * truth + rng.random(60), 0, 1.3) / 1.3
    result = classification_metrics(truth, np.stack([1 - score, score], 1), ("no", "yes"))
    predicted = score > 0.5
    hits = {k: np.mean(predicted[truth == k] == k) for k in (0, 1)}
    assert result["accuracy"] == pytest.approx(np.mean(predicted == truth))
    assert result["balanced_accuracy"] == pytest.approx((hits[0] + hits[1]) / 2)
    assert result["roc_auc"] == pytest.approx(_auc(truth == 1, score))
    assert result["pr_auc"] == pytest.approx(_average_precision(truth == 1, score))
    f1 = []
    for k in (0, 1):
        both = np.sum((predicted == k) & (truth == k))
        f1.append(2 * both / (np.sum(predicted == k) + np.sum(truth == k)))
    assert result["macro_f1"] == pytest.approx(np.mean(f1))
    assert result["prevalence"]["yes"] == pytest.approx(truth.mean())
    assert np.sum(result["confusion"]) == result["n"] == 60
    assert result["confusion"][1][0] == np.sum((truth == 1) & ~predicted)


def test_many_classes_average_over_those_present():
    rng = np.random.default_rng(2)
    truth = np.append(rng.choice([0, 2, 3], 80), -1)  # class 1 absent, last row unlabelled
    probabilities = rng.dirichlet(np.ones(4), 81)
    probabilities[np.arange(80), truth[:80]] += 0.4
    result = classification_metrics(truth, probabilities, tuple("abcd"))
    y, p = truth[:80], probabilities[:80]
    assert result["n"] == 80
    assert result["roc_auc"] == pytest.approx(np.mean([_auc(y == k, p[:, k]) for k in (0, 2, 3)]))
    expected = np.mean([_average_precision(y == k, p[:, k]) for k in (0, 2, 3)])
    assert result["pr_auc"] == pytest.approx(expected)
    recall = [np.mean(p[y == k].argmax(1) == k) for k in (0, 2, 3)]
    assert result["balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert result["prevalence"]["b"] == 0.0


@pytest.mark.parametrize(("truth", "n"), [([], 0), ([-1, -1], 0), ([1, 1, -1], 2)])
def test_undefined_class_scores_are_none(truth, n):
    probabilities = np.tile([0.4, 0.6], (len(truth), 1))
    result = classification_metrics(np.array(truth, int), probabilities, ("a", "b"))
    assert result["n"] == n
    assert result["roc_auc"] is None
    assert result["pr_auc"] is None
    assert (result["accuracy"] is None) == (n == 0)
    json.dumps(result, allow_nan=False)


def test_bad_input_names_the_target():
    bulk, metal = get_specs(["bulk_modulus", "is_metal"])
    with pytest.raises(NotFiniteError, match=r"'bulk_modulus': .*not finite"):
        target_metrics(bulk, np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"'bulk_modulus': predictions of shape \(2, 1\)"):
        target_metrics(bulk, np.array([1.0, 2.0]), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"'is_metal': class indices"):
        target_metrics(metal, np.array([0, 2]), np.full((2, 2), 0.5))


def test_average_r2_with_and_without_identities():
    specs = get_specs(["bulk_modulus", "volume", "shear_modulus", "debye_temperature", "is_metal"])
    metrics = {
        "bulk_modulus": {"r2": 0.8}, "volume": {"r2": 1.0}, "shear_modulus": {"r2": 0.6},
        "debye_temperature": {"r2": None}, "is_metal": {"accuracy": 0.1},
    }
    assert average_r2(metrics, specs) == pytest.approx(0.8)
    assert average_r2(metrics, specs, identities=False) == pytest.approx(0.7)
    assert average_r2({"is_metal": {}}, specs) is None
