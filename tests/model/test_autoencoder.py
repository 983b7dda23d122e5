"""The autoencoder is periodic, and has the size of the paper's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model.autoencoder import Autoencoder, AutoencoderDecoder, pooled, repeated


def _latent(model: Autoencoder, variables, field: jax.Array) -> jax.Array:
    _, found = model.apply(
        variables, field, jnp.zeros((len(field), 0)), mutable=["intermediates"]
    )
    return found["intermediates"]["last_scale"][0]


@pytest.mark.parametrize(("grid", "edge"), [(128, 16), (64, 8), (48, 6)])
def test_shapes_and_parameters_are_those_of_the_paper(grid: int, edge: int):
    """112 thousand parameters: 3^3 convolutions 1-16-32-32-16 and back, with their biases."""
    encoder, decoder = Autoencoder(targets=()), AutoencoderDecoder(1, 0, stride=8)
    field = jax.ShapeDtypeStruct((1, grid, grid, grid, 1), jnp.float32)
    features = jax.ShapeDtypeStruct((1, 0), jnp.float32)
    variables = jax.eval_shape(encoder.init, jax.random.key(0), field, features)
    latent = jax.eval_shape(lambda v, f: _latent(encoder, v, f), variables, field)
    assert latent.shape == (1, edge, edge, edge, 16)
    assert encoder.total_stride == grid // edge
    decoding = jax.eval_shape(lambda k, z: decoder.init(k, z, grid), jax.random.key(0), latent)
    made = jax.eval_shape(lambda v, z: decoder.apply(v, z, grid), decoding, latent)
    assert made["voxels"].shape == (1, grid, grid, grid, 1)
    pairs = [(1, 16), (16, 32), (32, 32), (32, 16), (16, 32), (32, 32), (32, 16), (16, 1)]
    convolutions = [
        leaf for tree in (variables, decoding) for leaf in jax.tree.leaves(tree) if leaf.ndim == 5
    ]
    found = sum(leaf.size + leaf.shape[-1] for leaf in convolutions)
    assert found == sum(27 * i * o + o for i, o in pairs) == 111_633


def test_a_rolled_density_has_a_rolled_latent():
    """Rolls by the stride change nothing but places, in the encoder and in the decoder."""
    encoder = Autoencoder(targets=(), widths=(3, 4), latent=3)
    decoder = AutoencoderDecoder(2, 0, stride=4, width=4)
    field = np.random.default_rng(0).normal(size=(1, 12, 12, 12, 2)).astype(np.float32)
    fields = [field] + [np.roll(field, by, (1, 2, 3)) for by in ((4, 8, -4), (1, 0, 0))]

    @jax.jit
    def through(fields: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables = encoder.init(jax.random.key(1), fields[:1], jnp.zeros((1, 0)))
        latents = _latent(encoder, variables, fields)
        weights = decoder.init(jax.random.key(2), latents[:1], 12)
        return latents, decoder.apply(weights, latents, 12)["voxels"]

    latents, made = map(np.asarray, through(np.concatenate(fields)))
    assert latents.shape == (3, 3, 3, 3, 3)
    assert made.shape == (3, 12, 12, 12, 2)
    np.testing.assert_array_equal(latents[1], np.roll(latents[0], (1, 2, -1), (0, 1, 2)))
    np.testing.assert_array_equal(made[1], np.roll(made[0], (4, 8, -4), (0, 1, 2)))
    assert np.abs(latents[2] - latents[0]).max() > 1e-3


def test_pooling_takes_means_of_cubes():
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 2, 3))
    found = np.asarray(pooled(jnp.asarray(x, jnp.float32)))
    assert found.shape == (2, 2, 3, 1, 3)
    np.testing.assert_allclose(found[1, 1, 2, 0], x[1, 2:4, 4:6, 0:2].mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(pooled(repeated(jnp.asarray(found))), found, rtol=1e-5)
