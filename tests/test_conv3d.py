import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.ops import conv3d as ops

# Odd and even axes at once; the largest kernel spans 9 voxels.
GRID = (9, 10, 11)
FAST_COMPILE = {"xla_backend_optimization_level": 0}
CASES = [
    (k, stride, dilation, padding)
    for k, stride, dilation, padding in itertools.product(
        (1, 3, 5), (1, 2), (1, 2), ("circular", "zero", "valid")
    )
    if (k, dilation) != (1, 2)
]


def reference(x, kernel, stride, dilation, padding):
    """The sum that defines the operation, tap by tap, in NumPy."""
    reach = dilation * (kernel.shape[0] - 1) // 2
    first = reach if padding == "valid" else 0
    centres = [np.arange(first, n - first, stride) for n in x.shape[1:4]]
    total = 0.0
    for tap in np.ndindex(kernel.shape[:3]):
        taken = x
        for axis, (centre, t) in enumerate(zip(centres, tap), start=1):
            index, size = centre + t * dilation - reach, x.shape[axis]
            taken = np.take(taken, index % size, axis=axis)
            if padding == "zero":
                inside = ((index >= 0) & (index < size)).astype(x.dtype)
                taken = taken * np.expand_dims(inside, [a for a in range(5) if a != axis])
        total = total + np.einsum("bxyzi,io->bxyzo", taken, kernel[tap])
    return total


@pytest.mark.parametrize(("k", "stride", "dilation", "padding"), CASES)
def test_both_formulations_and_their_gradients_are_the_sum(k, stride, dilation, padding):
    rng = np.random.default_rng(k)
    x, dx = rng.normal(size=(2, 2, *GRID, 2))
    kernel, dkernel = rng.normal(size=(2, k, k, k, 2, 3))
    args = (stride, dilation, padding)
    expected = reference(x, kernel, *args)
    cotangent = rng.normal(size=expected.shape)
    # Bilinear: the derivative along (dx, dkernel) is exact.
    slope = np.vdot(cotangent, reference(dx, kernel, *args) + reference(x, dkernel, *args))

    def run(x, kernel, cotangent):
        results = []
        for implementation in ("lax", "folded"):
            y, pull = jax.vjp(
                lambda x, kernel, name=implementation: ops.conv3d(
                    x, kernel, stride=stride, dilation=dilation, padding=padding,
                    implementation=name,
                ),
                x, kernel,
            )  # fmt: skip
            results.append((y, pull(cotangent)))
        return results

    with jax.enable_x64(True):
        results = jax.jit(run, compiler_options=FAST_COMPILE)(x, kernel, cotangent)
    for y, (gx, gkernel) in results:
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11)
        assert np.vdot(gx, dx) + np.vdot(gkernel, dkernel) == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize("implementation", ["lax", "folded"])
def test_padding_may_be_longer_than_the_field(implementation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 3, 3, 1)), rng.normal(size=(5, 5, 5, 1, 1))
    with jax.enable_x64(True):
        y = ops.conv3d(x, kernel, dilation=2, implementation=implementation)
    np.testing.assert_allclose(y, reference(x, kernel, 1, 2, "circular"), atol=1e-12)


def test_auto_is_folded_on_cpu():
    arguments = jnp.zeros((1, 4, 4, 4, 1)), jnp.zeros((3, 3, 3, 1, 1))
    auto = str(jax.make_jaxpr(ops.conv3d)(*arguments))
    assert auto.count("conv_general_dilated") == 3


@pytest.mark.parametrize("implementation", ["lax", "folded"])
def test_a_field_too_small_for_valid_padding_is_refused(implementation):
    with pytest.raises(ValueError, match=r"\(4, 9, 9\) is too small for a 3\^3 kernel"):
        ops.conv3d(
            jnp.zeros((1, 4, 9, 9, 1)), jnp.zeros((3, 3, 3, 1, 1)), dilation=2, padding="valid",
            implementation=implementation,
        )  # fmt: skip
