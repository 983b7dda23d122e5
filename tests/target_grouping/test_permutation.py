import itertools

import numpy as np
import pytest

from densityjax.target_grouping.permutation import adjust, flip_p_values, order_p_value


def test_p_value_is_the_share_of_all_orders_where_they_are_few():
    """SciPy tries all 5! orders; here they are counted by hand."""
    x, y = np.random.default_rng(0).standard_normal((2, 5))
    observed = x @ y
    every = np.array(list(itertools.permutations(range(5))))  # [120, 5]
    as_large = y[every] @ x >= observed - 1e-12
    found = order_p_value(lambda orders: y[orders] @ x, [5], 1000, np.random.default_rng(0))
    assert found == pytest.approx(np.mean(as_large))


def test_random_orders_of_each_length_are_independent():
    drawn = []

    def statistic(first, second):
        if len(first) > 1:
            drawn.append((first, second))
        return first[:, 0] + 0.0

    p = order_p_value(statistic, [30, 20], 400, np.random.default_rng(0))
    first, second = (np.concatenate(orders) for orders in zip(*drawn, strict=True))
    assert (first.shape, second.shape) == ((400, 30), (400, 20))
    for orders in (first, second):
        size = orders.shape[1]
        np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (400, 1)))
        assert np.bincount(orders[:, 0]).max() < 400 / size * 2.5  # all places alike
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.15
    assert p == 1  # the unpermuted order has the smallest


def test_what_differs_by_rounding_is_equal():
    rng = np.random.default_rng(0)
    p = order_p_value(lambda orders: 0.3 + 1e-15 * rng.random(len(orders)), [30], 99, rng)
    assert p == 1


def test_flips_of_all_epochs_are_tried_where_they_are_few():
    series = np.array([[0.1, -0.1], [0.2, -0.2], [0.3, -0.3], [0.2, 0.2]])
    p = flip_p_values(series, 999, np.random.default_rng(0))
    flips = np.array(list(itertools.product((1, -1), repeat=4)))  # [16, 4]
    by_hand = np.mean(flips @ series >= series.sum(0) - 1e-12, axis=0)
    np.testing.assert_allclose(p, by_hand)
    assert p[0] == 1 / 16
    many = flip_p_values(np.tile(series, (10, 1)), 199, np.random.default_rng(0))
    assert many[0] == 1 / 200


def test_one_epoch_says_little():
    p = flip_p_values(np.array([[0.5, -0.5, 0.0]]), 99, np.random.default_rng(0))
    np.testing.assert_allclose(p, [0.5, 1, 1])


def test_adjusted_p_values_by_hand():
    p = np.array([[0, 0.01, 0.04], [0.01, 0, 0.03], [0.04, 0.03, 0]])
    expected = np.array([[0, 0.03, 0.04], [0.03, 0, 0.04], [0.04, 0.04, 0]])
    np.testing.assert_allclose(adjust(p), expected)
    np.testing.assert_array_equal(adjust(np.zeros((1, 1))), [[0]])
