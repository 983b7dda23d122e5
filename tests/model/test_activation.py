import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.ops.activation import sigmoid, silu

POINTS = np.concatenate([np.linspace(-30, 30, 601), [-1e4, 1e4, 0.0]])


@pytest.mark.parametrize(("ours", "flax"), [(sigmoid, jax.nn.sigmoid), (silu, jax.nn.silu)])
def test_values_and_slopes_are_those_of_jax(ours, flax):
    with jax.enable_x64(True):
        expected, slope = jax.vmap(jax.value_and_grad(flax))(POINTS)
        values, slopes = jax.vmap(jax.value_and_grad(ours))(POINTS)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(slopes, slope, rtol=1e-9, atol=1e-9)
    single = jnp.asarray(POINTS, jnp.float32)
    np.testing.assert_allclose(ours(single), expected, rtol=1e-6, atol=4e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(ours))(single), slope, rtol=1e-6, atol=4e-6)


def test_bfloat16_keeps_its_relative_precision_for_negative_arguments():
    points = jnp.asarray([-8.0, -6.0, -4.0, -2.0], jnp.bfloat16)
    exact = 1 / (1 + np.exp(-np.asarray(points, np.float64)))
    np.testing.assert_allclose(np.asarray(sigmoid(points), np.float64), exact, rtol=0.01)
