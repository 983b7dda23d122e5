"""What pretraining hides, and what can be guessed of it without learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.corruption import corrupt, hidden_blocks, interpolate


@pytest.mark.parametrize(
    ("size", "block", "fraction", "blocks"),
    [(12, 2, 0.5, 108), (8, 4, 0.01, 1), (8, 4, 0.99, 7), (9, 4, 0.5, None)],
)
def test_a_share_of_whole_blocks_is_hidden(size, block, fraction, blocks):
    draw = jax.jit(hidden_blocks, static_argnums=(1, 2, 3))
    draws = [np.asarray(draw(jax.random.key(k), size, block, fraction)) for k in (0, 1)]
    assert (draws[0] != draws[1]).any() or blocks == 1
    for hidden in draws:
        assert hidden.shape == (size,) * 3
        starts = range(0, size, block)
        parts = [
            hidden[i : i + block, j : j + block, k : k + block]
            for i in starts for j in starts for k in starts
        ]
        assert all(part.min() == part.max() for part in parts)
        number = sum(part.max() for part in parts)
        assert number == (blocks or round(fraction * len(parts)))


def test_what_is_hidden_is_not_seen():
    field = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 2)).astype(np.float32)
    hidden = np.zeros((1, 4, 4, 4), np.float32)
    hidden[0, :2, 2:, :2] = 1
    corrupted = jax.jit(corrupt)
    seen = np.asarray(corrupted(field, hidden, 0.1 * np.ones_like(field)))
    other = corrupted(field + 9 * hidden[..., None], hidden, 0.1 * np.ones_like(field))
    np.testing.assert_array_equal(seen, other)
    np.testing.assert_allclose(seen[hidden == 0], field[hidden == 0] + 0.1, rtol=1e-6)
    assert not seen[hidden == 1].any()


@pytest.mark.parametrize("periodic", [False, True])
def test_interpolation_is_exact_for_what_has_no_curvature(periodic):
    """A linear field is harmonic; of a periodic one, a constant."""
    x, y, z = np.meshgrid(*[np.arange(8.0)] * 3, indexing="ij")
    field = jnp.asarray(np.full_like(x, 3.0) if periodic else x - 2 * y + 3 * z)[None, ..., None]
    hidden = np.zeros((1, 8, 8, 8), np.float32)
    hidden[0, 2:5, 3:6, 1:4] = 1
    spoiled = field + 50 * hidden[..., None]
    found = interpolate(spoiled, jnp.asarray(hidden), periodic, 3)
    np.testing.assert_allclose(found, field, atol=1e-3)
