import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.model import layers


def run(module, x, seed=0):
    """(output, parameters), every parameter drawn so that none is a neutral 0 or 1."""
    shapes = jax.eval_shape(module.init, jax.random.key(seed), x)["params"]
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    return module.apply({"params": params}, x), params


TARGETS = (("gap", 1), ("class", 3), ("modulus", 1), ("other", 3), ("more", 2))


class Heads(nn.Module):
    """Either `layers.heads`, or a dense layer for each."""

    joined: bool

    @nn.compact
    def __call__(self, x):
        if self.joined:
            return layers.heads(x, TARGETS, 5)
        found = {}
        for name, width in TARGETS:
            hidden = nn.silu(layers.Dense(5, name=f"{name}_hidden")(x))
            found[name] = layers.Dense(width, name=f"{name}_out")(hidden)
        return found


def test_heads_are_two_dense_layers_each():
    """With the same names, initial values and results."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 7)), jnp.float32)
    joined, apart = (Heads(joined).init(jax.random.key(3), x) for joined in (True, False))
    jax.tree.map(np.testing.assert_array_equal, joined, apart)
    _, params = run(Heads(False), x)
    expected, found = (Heads(j).apply({"params": params}, x) for j in (False, True))
    assert list(found) == [name for name, _ in TARGETS]
    for name, width in TARGETS:
        assert found[name].shape == (4, width)
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 8, 6)), jnp.float32)


def test_multi_scale_is_one_convolution_per_dilation(x):
    y, params = run(layers.MultiScaleConv3D(7, (1, 2, 3)), x)
    assert y.shape == (2, 8, 8, 8, 7)
    assert [params[f"dilation{d}"]["bias"].size for d in (1, 2, 3)] == [3, 2, 2]
    one = layers.Conv3D(2, 3, 1, 3).apply({"params": params["dilation3"]}, x)
    np.testing.assert_allclose(y[..., 5:], one, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_valid_multi_scale_is_the_inside_of_the_padded_one(x, stride):
    """Where the taps stay inside the field, padding makes no difference; branches stay aligned."""
    options = dict(features=5, dilations=(1, 2))
    inner, params = run(layers.MultiScaleConv3D(**options, padding="valid", stride=stride), x)
    padded = layers.MultiScaleConv3D(**options, padding="zero").apply({"params": params}, x)
    np.testing.assert_allclose(inner, padded[:, 2:-2:stride, 2:-2:stride, 2:-2:stride], atol=1e-5)


def test_channel_attention_is_a_gate_per_channel_and_example(x):
    y, params = run(layers.ChannelAttention(), x)
    ratio = np.asarray(y / x)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1, :1], ratio.shape), rtol=1e-5)
    hidden = np.asarray(x).mean((1, 2, 3)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    gate = hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(ratio[:, 0, 0, 0], 1 / (1 + np.exp(-gate)), rtol=1e-4)


def test_spatial_attention_is_a_gate_per_voxel(x):
    y, _ = run(layers.SpatialAttention(), x / 4)  # where no gate is 0 or 1 in float32
    ratio = np.asarray(y / (x / 4))
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[..., :1], ratio.shape), rtol=1e-4)
    assert ratio.min() > 0
    assert ratio.max() < 1
    assert ratio.std() > 0.01


@pytest.mark.parametrize("attention", [(), ("channel",), ("spatial",), ("channel", "spatial")])
@pytest.mark.parametrize(("padding", "size"), [("circular", 8), ("zero", 8), ("valid", 4)])
def test_block_keeps_the_field_or_crops_it(x, attention, padding, size):
    block = layers.ResidualBlock(6, (1, 2), attention, padding)
    y, params = run(block, x)
    assert y.shape == (2, size, size, size, 6)
    names = {"ChannelAttention_0": "channel", "SpatialAttention_0": "spatial"}
    assert {names[name] for name in params if name in names} == set(attention)
    closed = params | {"gain": jnp.zeros(6)}
    crop = slice(2, -2) if padding == "valid" else slice(None)
    np.testing.assert_array_equal(block.apply({"params": closed}, x), x[:, crop, crop, crop])


def test_an_adapter_begins_as_the_identity_and_without_it_nothing_changes():
    """To the bit: the other parameters are drawn as before, and the block says the same."""
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 4, 4))
    plain, adapted = (layers.ResidualBlock(4, (1,), (), bottleneck=width) for width in (0, 2))
    known = plain.init(jax.random.key(1), x)["params"]
    whole = adapted.init(jax.random.key(1), x)["params"]
    adapter = whole[layers.ADAPTER]
    assert set(whole) - set(known) == {layers.ADAPTER}
    jax.tree.map(np.testing.assert_array_equal, known, {k: whole[k] for k in known})
    said = plain.apply({"params": known}, x)
    np.testing.assert_array_equal(adapted.apply({"params": whole}, x), said)
    up = {"kernel": jnp.ones_like(adapter["up"]["kernel"]), "bias": adapter["up"]["bias"]}
    changed = {**whole, layers.ADAPTER: {**adapter, "up": up}}
    hidden = jax.nn.silu(said @ adapter["down"]["kernel"] + adapter["down"]["bias"])
    expected = said + hidden.sum(-1, keepdims=True)
    found = adapted.apply({"params": changed}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
