"""Ranks by hand, agreement with crepes and MAPIE, and what is refused."""

import math

import numpy as np
import pytest
from crepes import ConformalRegressor
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from densityjax.results.conformal import (
    check_coverage,
    class_scores,
    class_thresholds,
    folds_of_systems,
    interval_thresholds,
    largest_coverage,
    prediction_sets,
    system_weights,
    threshold,
)
from densityjax.runtime.errors import UserError

ONES = np.ones(9)


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(0.9, 9.0), (0.8, 8.0), (0.71, 8.0), (0.5, 5.0), (0.1, 1.0), (0.05, 1.0), (0.91, math.inf)],
)
def test_with_one_row_per_system_the_rank_is_that_of_split_conformal(coverage, expected):
    scores = np.array([3.0, 1, 2, 9, 8, 7, 6, 5, 4])
    assert threshold(scores, ONES, coverage) == expected  # the ceil(10 c)-th smallest


def test_a_system_weighs_one_however_many_rows_it_has():
    """Systems a (4 rows), b, c: 0.5 (3 + 1) = 2 is reached by 4/4 of a and one of b and c."""
    systems = np.array(["a", "b", "a", "c", "a", "a"])
    weights = system_weights(systems)
    np.testing.assert_allclose(weights, [0.25, 1, 0.25, 1, 0.25, 0.25])
    scores = np.array([1.0, 5, 2, 7, 3, 4])
    assert threshold(scores, weights, 0.25) == 4.0
    assert threshold(scores, weights, 0.5) == 5.0
    assert threshold(scores, weights, 0.74) == 7.0
    assert threshold(scores, weights, 0.75) == 7.0
    assert threshold(scores, weights, 0.76) == math.inf
    # Of rows that count alike the fourth of six would do.
    assert threshold(scores, np.ones(6), 0.5) == 4.0


def test_a_coverage_that_the_systems_do_not_support_is_refused():
    assert largest_coverage(9) == 0.9
    check_coverage(0.9, 9, "it")
    with pytest.raises(UserError, match=r"--coverage=0\.95: 'K' was calibrated on 9 .* 0\.9 "):
        check_coverage(0.95, 9, "'K'")
    with pytest.raises(UserError, match=r"0\.8888 or less"):
        check_coverage(0.9, 8, "'K'")
    with pytest.raises(UserError, match="between 0 and 1"):
        check_coverage(1.0, 9, "it")


def test_each_side_misses_half_or_both_have_one_threshold():
    scores = np.arange(-9.0, 10) * np.where(np.arange(-9, 10) > 0, 2, 1)  # [19] -9 ... 18
    found = interval_thresholds(scores, np.ones(19), 0.9, True)
    assert (found.lower, found.upper) == (9.0, 18.0)  # the 19th of 19 each
    found = interval_thresholds(scores, np.ones(19), 0.9, False)
    assert found.lower == found.upper == 16.0  # the 18th largest |score|
    # 0.975 of each side would take 39 systems.
    found = interval_thresholds(scores, np.ones(19), 0.95, True)
    assert found.lower == found.upper == 18.0


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [150, 202])
def test_intervals_are_those_of_crepes(coverage, count):
    """With 199 rows crepes takes the 181st for 0.9, since (1 - 0.9) 200 is below 20 in floats."""
    rng = np.random.default_rng(count)
    residuals, sigma = rng.standard_t(3, count), rng.uniform(0.5, 2, count)
    other, wide = rng.normal(0, 5, 7), rng.uniform(0.5, 2, 7)
    crepes = ConformalRegressor().fit(residuals, sigmas=sigma)
    expected = crepes.predict_int(other, sigmas=wide, confidence=coverage)
    found = interval_thresholds(residuals / sigma, np.ones(count), coverage, False)
    np.testing.assert_allclose(other - found.lower * wide, expected[:, 0])
    np.testing.assert_allclose(other + found.upper * wide, expected[:, 1])


class _Said(ClassifierMixin, BaseEstimator):
    """A fitted classifier that says its input."""

    def __init__(self) -> None:
        self.classes_, self.fitted_ = np.arange(3), True

    def fit(self, x: np.ndarray, y: np.ndarray) -> "_Said":
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_are_those_of_mapie(coverage):
    """Of LAC; the scores of MAPIE's APS have a random part, ours have none."""
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet([0.6, 0.8, 1], 240)
    labels = np.array([rng.choice(3, p=p) for p in probabilities])
    own, other = probabilities[:199], probabilities[199:]
    mapie = SplitConformalClassifier(_Said(), confidence_level=coverage, prefit=True)
    expected = mapie.conformalize(own, labels[:199]).predict_set(other)[1][:, :, 0]
    scores = class_scores("lac", own)[np.arange(199), labels[:199]]
    limit = np.full(3, threshold(scores, np.ones(199), coverage))
    found = prediction_sets(class_scores("lac", other), limit, other)
    expected[np.arange(len(other)), other.argmax(axis=1)] = True  # theirs may be empty
    np.testing.assert_array_equal(found, expected)


def test_scores_of_classes_by_hand():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(
        class_scores("aps", probabilities), [[1, 0.5, 0.8], [0.9, 1, 0.8]]
    )
    sets = prediction_sets(class_scores("aps", probabilities), np.full(3, 0.8), probabilities)
    np.testing.assert_array_equal(sets, [[False, True, True], [False, False, True]])
    sets = prediction_sets(class_scores("lac", probabilities), np.zeros(3), probabilities)
    np.testing.assert_array_equal(sets, np.eye(3, dtype=bool)[[1, 2]])  # never empty


def test_no_system_is_in_two_folds():
    systems = np.random.default_rng(1).integers(0, 40, 200).astype(str)
    fold = folds_of_systems(systems)
    assert set(fold) == set(range(10))
    assert len({(s, f) for s, f in zip(systems, fold)}) == len(np.unique(systems))


def test_a_class_with_few_systems_shares_a_threshold():
    labels = np.repeat([0, 1, 2], [40, 5, 6])
    systems = np.arange(51)
    scores = np.ones((51, 3))
    scores[np.arange(51), labels] = np.concatenate([
        np.linspace(0.01, 0.4, 40), np.linspace(0.5, 0.9, 11)
    ])
    common, *rare = class_thresholds(scores, labels, systems, 0.9)
    assert common == pytest.approx(0.37)  # ceil(0.9 x 41) = 37th
    np.testing.assert_allclose(rare, 0.9)  # ceil(0.9 x 12) = 11th of both
    rare = class_thresholds(scores, labels, systems, 0.8)[1:]
    # At 0.8 four systems suffice for a class of its own: ceil(0.8 x 6) = 5th, ceil(0.8 x 7) = 6th.
    np.testing.assert_allclose(rare, [0.66, 0.9])
