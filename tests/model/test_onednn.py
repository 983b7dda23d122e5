import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from densityjax.model.ops import onednn
from tests import needs

LOCKS = sorted((Path(__file__).parents[2] / "requirements").glob("lock-py*.txt"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_the_locked_jaxlib_was_tried(lock):
    found = re.search(r"^jaxlib==(\S+)", lock.read_text(), re.MULTILINE).group(1)
    assert found in onednn.TESTED_JAXLIB


@needs.onednn
@pytest.mark.parametrize("taps", [(1, 2, 3), (2, 2, 1)])
def test_kernels_with_unequal_edges(taps):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 7, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*taps, 3, 4)), jnp.float32)
    y = onednn.convolution(x, kernel, stride=1, dilation=2, padding=1)
    expected = lax.conv_general_dilated(
        x, kernel, (1, 1, 1), [(1, 1)] * 3, rhs_dilation=(2, 2, 2),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)


@needs.onednn
def test_works_under_vmap_and_on_every_device():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, 2, 6, 6, 6, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 2, 4)), jnp.float32)
    convolve = lambda x: onednn.convolution(x, kernel, stride=1, dilation=1, padding=1)  # noqa: E731
    one_by_one = np.stack([convolve(leaf) for leaf in x])
    np.testing.assert_array_equal(jax.vmap(convolve)(x), one_by_one)
    np.testing.assert_array_equal(jax.pmap(convolve)(x), one_by_one)


@pytest.mark.parametrize(
    ("x", "kernel"),
    [
        ((1, 2, 2, 2, 1), (5, 5, 5, 1, 1)),  # nothing would be left
        ((0, 4, 4, 4, 1), (3, 3, 3, 1, 1)),
    ],
)
def test_what_would_end_the_process_is_refused(x, kernel):
    with pytest.raises(ValueError, match="no oneDNN convolution of float32"):
        onednn.convolution(jnp.zeros(x), jnp.zeros(kernel), stride=1, dilation=1, padding=0)


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match="no oneDNN convolution of bfloat16"):
        onednn.convolution(
            jnp.zeros((1, 4, 4, 4, 1), jnp.bfloat16), jnp.zeros((3, 3, 3, 1, 1), jnp.bfloat16),
            stride=1, dilation=1, padding=1,
        )
