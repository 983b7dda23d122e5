import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.configs import elastic, elastic_classes, elastic_magnetic, paper_nonmagnetic, smoke
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.runtime.errors import ConfigError
from densityjax.step.create_task import create_task, field_size
from densityjax.targets import get_specs

# Of the model that each config describes. A changed number is a changed model: say so in the log.
PARAMETERS = {
    elastic: 417_332,
    elastic_classes: 367_861,
    elastic_magnetic: 359_501,
    paper_nonmagnetic: 1_641_058,
    smoke: 16_164,
}
TARGETS = (("bulk_modulus", 1), ("crystal_system", 7))


def small(**changes):
    fields = dict(targets=TARGETS, widths=(8, 16), blocks=(1, 1), head_width=8)
    return MSA3DCNN(**fields | changes)


def inputs(size=12, batch=2, channels=1, features=1):
    rng = np.random.default_rng(0)
    field = rng.normal(size=(batch, size, size, size, channels))
    return jnp.asarray(field, jnp.float32), jnp.asarray(rng.normal(size=(batch, features)), "f4")


def initialise(model, field, features):
    """Parameters from NumPy, which takes no compilation."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), field, features)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape) / np.sqrt(s.size / s.shape[-1]), s.dtype),
        shapes,
    )


def count(config):
    task = create_task(config, get_specs(config.targets), 10)
    size = field_size(config, 32)
    fields = num_fields(config.input.channels, config.input.transform)
    shapes = jax.eval_shape(
        task.model.init,
        jax.random.key(0),
        jnp.zeros((1, size, size, size, fields)),
        jnp.zeros((1, NUM_FEATURES[config.input.lattice_features])),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize("module", PARAMETERS, ids=lambda module: module.__name__)
def test_parameter_counts_of_configs(module):
    assert count(module.get_config()) == PARAMETERS[module]


@pytest.mark.slow
def test_dropout_belongs_to_the_example_and_to_training():
    model, (field, features) = small(dropout=0.5, attention=()), inputs(batch=3)
    variables = initialise(model, field, features)
    keys = jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def apply(keys, order):
        outputs, _ = model.apply(variables, field[order], features[order], keys)
        return outputs["bulk_modulus"]

    order = np.array([2, 0, 1])
    drawn = apply(keys, np.arange(3))
    np.testing.assert_allclose(apply(keys[order], order), drawn[order], rtol=1e-5, atol=1e-6)
    assert np.abs(apply(jax.random.split(jax.random.key(2), 3), np.arange(3)) - drawn).min() > 1e-4
    plain = small(attention=()).apply(variables, field, features)[0]["bulk_modulus"]
    np.testing.assert_allclose(apply(None, np.arange(3)), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_recomputation_changes_neither_parameters_nor_gradients():
    """Compiled so that XLA on CPU does compute twice, see densityjax/step/parallel.py."""
    plain, recomputed, arguments = small(), small(remat=True), inputs(8)
    shapes = [jax.eval_shape(m.init, jax.random.key(0), *arguments) for m in (plain, recomputed)]
    assert shapes[0] == shapes[1]
    options = {
        "xla_backend_optimization_level": 0,
        "xla_disable_hlo_passes": "cse_barrier_expander",
    }

    def gradient(model):
        def loss(variables):
            outputs, embedding = model.apply(variables, *arguments)
            return sum(jnp.square(leaf).mean() for leaf in outputs.values()) + embedding[0, 0]

        return jax.jit(jax.value_and_grad(loss), compiler_options=options)(variables)

    variables = initialise(plain, *arguments)
    results = [gradient(model) for model in (plain, recomputed)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


def test_parameter_count_by_hand():
    variables = initialise(small(attention=()), *inputs())
    stem = 2 * (27 * 1 * 4 + 4)
    block0 = 2 * (27 * 8 * 4 + 4) + (8 * 8 + 8) + 8
    down = 27 * 8 * 16 + 16
    block1 = 2 * (27 * 16 * 8 + 8) + (16 * 16 + 16) + 16
    heads = 2 * (33 * 8 + 8) + (8 + 1) + (8 * 7 + 7)
    total = stem + block0 + down + block1 + 2 * 32 + heads
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == total


def test_rolls_by_the_total_stride_change_nothing_and_others_do():
    model, (field, features) = small(), inputs()
    variables = initialise(model, field, features)
    assert model.total_stride == 4
    apply = jax.jit(lambda field: model.apply(variables, field, features)[0])
    plain = apply(field)

    def moved(shift):
        rolled = apply(jnp.roll(field, shift, axis=(1, 2, 3)))
        return max(float(jnp.abs(rolled[name] - plain[name]).max()) for name, _ in TARGETS)

    assert max(moved(shift) for shift in [(4, 0, 0), (0, 8, 4), (-4, 4, 8)]) < 1e-5
    assert min(moved(shift) for shift in [(1, 0, 0), (0, 2, 0), (0, 0, 3)]) > 1e-3


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch():
    model, (field, features) = small(), inputs(batch=3)
    variables = initialise(model, field, features)
    assert set(variables) == {"params"}
    apply = jax.jit(model.apply)
    together = apply(variables, field, features)
    other = apply(variables, field.at[1:].multiply(100.0), features.at[1:].add(9.0))
    alone = apply(variables, field[:1], features[:1])
    for a, b, c in zip(*map(jax.tree.leaves, (together, other, alone))):
        np.testing.assert_allclose(a[:1], b[:1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(a[:1], c, rtol=1e-5, atol=1e-6)
        assert np.abs(a[1:] - b[1:]).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"attention": ()}, 12),
        ({"attention": ("spatial",)}, 12),
        ({"dilations": (1,)}, 12),
        ({"dilations": (1, 2, 3)}, 12),
        ({"widths": (7, 9, 12), "blocks": (0, 2, 1), "stem_stride": 1}, 12),
        ({"padding": "zero"}, 13),
        ({"padding": "valid"}, 35),
        ({"implementation": "lax"}, 13),
    ],
)
def test_variants(changes, size):
    model, arguments = small(**changes), inputs(size, channels=2, features=0)
    (outputs, embedding), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), *arguments)
    assert {name: leaf.shape for name, leaf in outputs.items()} == {
        name: (2, width) for name, width in TARGETS
    }
    assert embedding.shape == (2, 2 * model.widths[-1])


def test_valid_padding_sees_no_border():
    """A uniform field looks the same at every voxel, so its mean and maximum are one."""
    model, (field, features) = small(padding="valid", attention=("channel",)), inputs(35)
    params = initialise(model, field, features)["params"]
    params["pooled_norm"] = {"scale": jnp.ones(32), "bias": jnp.zeros(32)}
    _, embedding = jax.jit(model.apply)({"params": params}, jnp.ones_like(field), features)
    np.testing.assert_allclose(embedding[:, :16], embedding[:, 16:32], atol=1e-3)
    assert embedding[:, :16].std() > 0.1
    message = r"too small for a 3\^3 kernel .* enlarge config.view.size"
    with pytest.raises(ConfigError, match=message):
        jax.jit(model.init)(jax.random.key(0), *inputs(16))


@pytest.mark.slow
def test_bfloat16_computes_but_does_not_store():
    field, features = inputs()
    variables = initialise(small(), field, features)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    half = small(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(half.init, jax.random.key(0), field, features)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    low, high = (jax.jit(m.apply)(variables, field, features) for m in (half, small()))
    for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(high)):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=0.05)
        assert not np.array_equal(a, b)
