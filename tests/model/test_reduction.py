import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.ops.reduction import add_bias, scale, voxel_sum

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 3, 4, 5, 6)), jnp.float32)
COTANGENT = jnp.asarray(RNG.normal(size=X.shape), jnp.float32)


def test_voxel_sum_is_the_sum():
    np.testing.assert_allclose(voxel_sum(X), np.asarray(X, float).sum((1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "plain", "shape"),
    [
        (add_bias, jnp.add, (6,)),
        (scale, jnp.multiply, (6,)),
        (scale, jnp.multiply, (2, 1, 1, 1, 6)),
    ],
)
def test_values_and_gradients_are_those_of_jax(ours, plain, shape):
    operand = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    y, pull = jax.vjp(ours, X, operand)
    expected, expected_pull = jax.vjp(plain, X, operand)
    np.testing.assert_array_equal(y, expected)
    for got, wanted in zip(jax.jit(pull)(COTANGENT), expected_pull(COTANGENT), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
