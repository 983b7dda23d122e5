"""Averages over models by hand: values, probabilities, spread, and rows by material."""

import numpy as np
import pytest

from densityjax.results.averages import average_parts, average_states, average_tables
from densityjax.results.predictions import Predictions
from densityjax.results.predictions_table import TargetPredictions
from densityjax.targets import get_specs

MODULUS, METAL = get_specs(["bulk_modulus", "is_metal"])


def table(ids: str, prediction: list, spread: list[float], spec=MODULUS) -> TargetPredictions:
    truth = np.array([float(ord(name)) for name in ids])
    if spec is METAL:
        truth = np.array([ord(name) % 2 for name in ids])
    formulas = tuple(name.upper() for name in ids)
    return TargetPredictions(
        spec, tuple(ids), formulas, truth, np.array(prediction), np.array(spread)
    )


def test_rows_are_averaged_by_material():
    """In another order, and each by the tables that have it: as folds rotate."""
    joined = average_tables([
        table("ab", [1.0, 2.0], [0.3, 0.0]), table("ba", [4.0, 3.0], [0.0, 0.5]),
        table("c", [7.0], [0.1]),
    ])
    assert joined.ids == ("a", "b", "c")
    assert joined.formulas == ("A", "B", "C")
    assert joined.truth.tolist() == [97, 98, 99]
    assert joined.prediction.tolist() == [2, 3, 7]
    # a: views (0.09 + 0.25) / 2, members 1; b: members 1; c: one member.
    np.testing.assert_allclose(joined.spread, [np.sqrt(0.17 + 1), 1, 0.1])


def test_classes_average_their_probabilities():
    joined = average_tables([
        table("ab", [[0.9, 0.1], [0.6, 0.4]], [0.0, 0.1], METAL),
        table("ab", [[0.4, 0.6], [0.2, 0.8]], [0.2, 0.1], METAL),
    ])
    np.testing.assert_allclose(joined.prediction, [[0.65, 0.35], [0.4, 0.6]])
    assert joined.truth.tolist() == [1, 0]
    # Of the class that wins on average: 0.9 and 0.4; 0.4 and 0.8.
    np.testing.assert_allclose(joined.spread, [np.sqrt(0.02 + 0.25**2), np.sqrt(0.01 + 0.2**2)])


def test_the_spread_is_that_of_all_views_together():
    """With as many views of each member: the law of total variance."""
    views = np.random.default_rng(0).normal(size=(3, 5, 8))  # members, materials, views
    _, spread = average_parts(list(views.mean(2)), list(views.std(2)))
    np.testing.assert_allclose(spread, views.transpose(1, 0, 2).reshape(5, -1).std(1))


def test_states_of_one_run_add_no_spread():
    def predictions(value: float, spread: float) -> Predictions:
        return Predictions(
            {"bulk_modulus": np.array([value])}, {"bulk_modulus": np.array([spread])},
            {"bulk_modulus": np.array([np.nan])}, np.array([[value]]),
        )

    best, next_best = predictions(1.0, 3.0), predictions(5.0, 1.0)
    average = average_states([best, next_best])
    assert average.values["bulk_modulus"] == [3]
    assert average.spread["bulk_modulus"] == pytest.approx(np.sqrt(5))
    assert average.embedding == [[1]]
    assert average_states([best]) is best
