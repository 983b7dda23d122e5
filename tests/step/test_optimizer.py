import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from densityjax.step.optimizer import create_optimizer, create_schedule


def config(**changes):
    values = dict(
        learning_rate=1e-2, warmup_fraction=0.1, weight_decay=0.0, clip_norm=1.0, b1=0.9, b2=0.99,
        trunk_rate=1.0, head_first=0.0,
    )
    return ConfigDict(values | changes)


def test_schedule_warms_up_and_follows_a_cosine_to_zero():
    schedule = create_schedule(config(), 200)
    steps = np.arange(201)
    cosine = 0.005 * (1 + np.cos(np.pi * (steps - 20) / 180))
    expected = np.where(steps < 20, 0.01 * steps / 20, cosine)
    np.testing.assert_allclose(schedule(steps), expected, atol=1e-8)


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_schedule_of_very_short_runs_is_finite(num_steps):
    assert np.isfinite(create_schedule(config(), num_steps)(np.arange(4))).all()


def updates(changes, gradient, params, num_steps=10):
    tx = create_optimizer(config(**changes), num_steps)
    state, found = tx.init(params), []
    for _ in range(3):
        update, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, update)
        found.append(update)
    return found


def test_adamw_by_its_formula_decaying_kernels_alone():
    params = {
        "kernel": jnp.full((2, 2), 2.0),
        "bias": jnp.full(2, 2.0),
        "log_variance": jnp.ones(1),
    }
    gradient = {
        "kernel": jnp.full((2, 2), 0.1),
        "bias": jnp.full(2, 0.1),
        "log_variance": jnp.ones(1),
    }
    gradient["log_variance"] *= 0.1
    found = updates({"weight_decay": 0.5, "clip_norm": 10.0}, gradient, params)
    # A constant gradient makes Adam's step exactly one learning rate; rate 0 in step 0, then 1e-2.
    for name in params:
        np.testing.assert_array_equal(found[0][name], 0)
    decayed = -0.01 * (1 + 0.5 * 2.0)
    np.testing.assert_allclose(found[1]["kernel"], decayed, rtol=1e-4)
    np.testing.assert_allclose(found[1]["bias"], -0.01, rtol=1e-4)
    np.testing.assert_allclose(found[1]["log_variance"], -0.01, rtol=1e-4)


def test_gradients_are_clipped_by_their_global_norm():
    """Adam forgets a constant factor, so the clip shows where a spike follows a small gradient."""
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    tx = create_optimizer(config(b1=0.0), 10)
    state = tx.init(params)
    for scale in (0.01, 100.0):
        gradient = {"a": jnp.full(1, 3.0 * scale), "b": jnp.full(1, 4.0 * scale)}
        update, state = tx.update(gradient, state, params)
    small, clipped = 0.03, 0.6  # norms 0.05 and, after clipping 500, 1
    second_moment = (0.99 * 0.01 * small**2 + 0.01 * clipped**2) / (1 - 0.99**2)
    assert update["a"][0] == pytest.approx(-0.01 * clipped / np.sqrt(second_moment), rel=1e-4)


def test_the_trunk_has_a_rate_of_its_own():
    """Decay is part of it; the same state fits both, so that a run may change it."""
    layer = {"kernel": jnp.full((2, 2), 2.0)}
    params = {"model": {"stem": layer, "a_out": layer}, "log_variance": jnp.ones(1)}
    gradient = jax.tree.map(lambda leaf: 0.01 * leaf, params)
    changes, heads = {"weight_decay": 0.5, "warmup_fraction": 0.0}, ("a_hidden", "a_out")
    found = {}
    for rate in (1.0, 0.25, 0.0):
        tx = create_optimizer(config(**changes, trunk_rate=rate), 10, heads)
        state = tx.init(params)
        for _ in range(2):
            found[rate], state = tx.update(gradient, state, params)
        assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
    whole = found[1.0]["model"]["stem"]["kernel"]
    assert abs(whole).min() > 0
    for rate in (0.25, 0.0):
        np.testing.assert_array_equal(found[rate]["model"]["stem"]["kernel"], rate * whole)
        np.testing.assert_array_equal(found[rate]["model"]["a_out"]["kernel"], whole)
        np.testing.assert_array_equal(found[rate]["log_variance"], found[1.0]["log_variance"])


def test_equal_settings_give_one_object_whatever_the_heads():
    assert create_optimizer(config(), 10, ("a_out",)) is create_optimizer(config(), 10, ("b_out",))


def test_heads_learn_first_then_all():
    """With the state of a run without it; adapters wait, then learn though the trunk does not."""
    layer = {"kernel": jnp.full((2, 2), 2.0)}
    params = {
        "model": {"block": {"mix": layer, "adapter": layer}, "a_out": layer},
        "log_variance": jnp.ones(1),
    }
    gradient = jax.tree.map(lambda leaf: 0.01 * leaf, params)
    plain, first = (
        create_optimizer(config(warmup_fraction=0.0, **changes), 10, ("a_hidden", "a_out"))
        for changes in ({}, {"head_first": 0.3, "trunk_rate": 0.0})
    )
    states = [plain.init(params), first.init(params)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    for step in range(5):
        expected, states[0] = plain.update(gradient, states[0], params)
        found, states[1] = first.update(gradient, states[1], params)
        rates = {"mix": 0.0, "adapter": 0.0 if step < 3 else 1.0}
        for part, rate in rates.items():
            np.testing.assert_array_equal(
                found["model"]["block"][part]["kernel"],
                rate * expected["model"]["block"][part]["kernel"],
            )
        np.testing.assert_array_equal(
            found["model"]["a_out"]["kernel"], expected["model"]["a_out"]["kernel"]
        )
