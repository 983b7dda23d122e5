import jax
import numpy as np

from densityjax import config
from densityjax.model import fixed_views, views


def test_draws_are_those_of_jax():
    numbers = np.array([0, 1, 7, 1023])
    keys = fixed_views.fold_in(fixed_views.seed_key(13207), numbers)
    expected = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(13207), n))(numbers)
    np.testing.assert_array_equal(keys, jax.random.key_data(expected))
    halves = jax.random.key_data(jax.vmap(jax.random.split)(expected))  # [4, 2, 2]
    np.testing.assert_array_equal(fixed_views.split(keys).swapaxes(0, 1), halves)
    same = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(expected)
    np.testing.assert_array_equal(fixed_views.uniform(keys, 3), same)
    same = jax.vmap(lambda key: jax.random.normal(key, (9,)))(expected)
    np.testing.assert_allclose(fixed_views.normal(keys, 9), same, rtol=3e-6, atol=1e-7)


def test_rotations_are_those_of_the_training_views():
    gaussian = fixed_views.normal(fixed_views.seed_key(5)[None], 9).reshape(1, 3, 3)
    expected = views.random_rotation(jax.random.key(5))
    np.testing.assert_allclose(fixed_views.rotations_of(gaussian)[0], expected, atol=1e-6)


def test_there_are_as_many_views_as_a_config_may_ask_for():
    origins, rotations = fixed_views.fixed_views()
    assert len(origins) == len(rotations) == config.MAX_VIEWS == fixed_views.MAX_VIEWS
    products = rotations @ rotations.swapaxes(1, 2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-6)
    assert origins.min() >= 0
    assert origins.max() < 1
