import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.ops import conv3d as ops
from densityjax.model.ops import onednn
from densityjax.runtime.errors import ConfigError
from tests import needs

# Odd and even axes at once; the largest kernel spans 9 voxels.
GRID = (9, 10, 11)
FAST_COMPILE = {"xla_backend_optimization_level": 0}
CASES = [
    (k, stride, dilation, padding)
    for k, stride, dilation, padding in itertools.product(
        (1, 3, 5), (1, 2), (1, 2), ("circular", "zero", "valid")
    )
    # Of the widest kernel, which no config has, one case.
    if (k, dilation) != (1, 2) and ((k, dilation) != (5, 2) or (stride, padding) == (1, "circular"))
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


def gradients(x, kernel, cotangent, implementation, **options):
    """(y, dx, dkernel) under one cotangent."""
    y, pull = jax.vjp(
        lambda x, kernel: ops.conv3d(x, kernel, implementation=implementation, **options), x, kernel
    )
    return y, *pull(cotangent)


def draw(k, stride, dilation, padding, channels=(2, 3)):
    """(x, kernel, cotangent, the two tangents, the sum that defines y), float64."""
    rng = np.random.default_rng(k)
    x, dx = rng.normal(size=(2, 2, *GRID, channels[0]))
    kernel, dkernel = rng.normal(size=(2, k, k, k, *channels))
    expected = reference(x, kernel, stride, dilation, padding)
    return x, kernel, rng.normal(size=expected.shape), dx, dkernel, expected


@pytest.mark.parametrize(("k", "stride", "dilation", "padding"), CASES)
def test_every_formulation_and_its_gradients_are_the_sum(k, stride, dilation, padding):
    x, kernel, cotangent, dx, dkernel, expected = draw(k, stride, dilation, padding)
    options = dict(stride=stride, dilation=dilation, padding=padding)
    args = (stride, dilation, padding)
    # Bilinear: the derivative along (dx, dkernel) is exact.
    slope = np.vdot(cotangent, reference(dx, kernel, *args) + reference(x, dkernel, *args))

    def run(x, kernel, cotangent):
        return [gradients(x, kernel, cotangent, name, **options) for name in ("lax", "folded")]

    with jax.enable_x64(True):
        results = jax.jit(run, compiler_options=FAST_COMPILE)(x, kernel, cotangent)
    for y, gx, gkernel in results:
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11)
        assert np.vdot(gx, dx) + np.vdot(gkernel, dkernel) == pytest.approx(slope, rel=1e-10)


@needs.onednn
@pytest.mark.parametrize(
    ("k", "stride", "dilation", "padding", "channels"),
    [
        (*case, channels)
        for case, channels in itertools.product(CASES, ((2, 3), (16, 5)))
        if case[0] < 5 or channels == (2, 3)  # with k = 5 these have that many weights already
    ],
)
def test_onednn_and_its_gradients_are_lax_in_float64(k, stride, dilation, padding, channels):
    """(16, 5): more weights than the gradient by patches takes."""
    x, kernel, cotangent, *_ = draw(k, stride, dilation, padding, channels)
    options = dict(stride=stride, dilation=dilation, padding=padding)

    def run(x, kernel, cotangent, implementation):
        return gradients(x, kernel, cotangent, implementation, **options)

    compiled = jax.jit(run, static_argnums=3, compiler_options=FAST_COMPILE)
    with jax.enable_x64(True):
        expected = compiled(x, kernel, cotangent, "lax")
    single = compiled(*(leaf.astype(np.float32) for leaf in (x, kernel, cotangent)), "onednn")
    for ours, exact in zip(single, expected, strict=True):
        assert ours.dtype == np.float32
        assert ours.shape == exact.shape
        np.testing.assert_allclose(ours, exact, rtol=0, atol=3e-6 * np.abs(exact).max())


@needs.onednn
def test_periodic_gradients_on_a_grid_that_the_stride_divides():
    x, kernel, *_ = draw(3, 2, 1, "circular")
    x = np.ascontiguousarray(np.tile(x[:, :8, :8, :8], (1, 1, 1, 1, 20)))  # [2, 8, 8, 8, 40]
    kernel = np.tile(kernel, (1, 1, 1, 20, 1))
    cotangent = np.random.default_rng(1).normal(size=(2, 4, 4, 4, 3))
    options = dict(stride=2, dilation=1, padding="circular")
    with jax.enable_x64(True):
        expected = gradients(x, kernel, cotangent, "lax", **options)
    single = gradients(
        *(jnp.asarray(leaf, jnp.float32) for leaf in (x, kernel, cotangent)), "onednn", **options
    )
    for ours, exact in zip(single, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("implementation", ["lax", "folded"])
def test_padding_may_be_longer_than_the_field(implementation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 3, 3, 1)), rng.normal(size=(5, 5, 5, 1, 1))
    with jax.enable_x64(True):
        y = ops.conv3d(x, kernel, dilation=2, implementation=implementation)
    np.testing.assert_allclose(y, reference(x, kernel, 1, 2, "circular"), atol=1e-12)


@needs.onednn
def test_auto_is_onednn_where_it_was_tried_and_folded_elsewhere(monkeypatch):
    arguments = jnp.zeros((1, 4, 4, 4, 1)), jnp.zeros((3, 3, 3, 1, 1))

    def lowered(arguments):
        return jax.jit(functools.partial(ops.conv3d)).lower(*arguments).as_text()

    assert "__onednn$convolution" in lowered(arguments)
    with jax.enable_x64(True):
        assert lowered([np.zeros(leaf.shape) for leaf in arguments]).count("convolution(") == 3
    monkeypatch.setattr(onednn, "TESTED_JAXLIB", ())
    assert lowered(arguments).count("convolution(") == 3
    with pytest.raises(ConfigError, match="choose 'auto'"):
        ops.conv3d(*arguments, implementation="onednn")


@pytest.mark.parametrize("implementation", ["lax", "folded"])
def test_a_field_too_small_for_valid_padding_is_refused(implementation):
    with pytest.raises(ConfigError, match=r"\(4, 9, 9\) is too small for a 3\^3 kernel"):
        ops.conv3d(
            jnp.zeros((1, 4, 9, 9, 1)), jnp.zeros((3, 3, 3, 1, 1)), dilation=2, padding="valid",
            implementation=implementation,
        )
