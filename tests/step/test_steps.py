"""The step on one device; its sums over devices and micro-batches are in test_parallel.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.step import parallel
from tests.step.test_parallel import make_setup, mapped_step  # noqa: F401  the fixture `setup`


@pytest.fixture(scope="module")
def step(setup):
    """The step on one device, as in test_parallel.py, which spares its compilation."""
    device = tuple(jax.devices()[:1])

    def step(state, batch):
        return mapped_step(setup, 1)(
            parallel.replicate(state, device), parallel.split_batch(batch, 1, device)
        )

    return step


def largest_change(a, b):
    return max(float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (a, b))))


@pytest.mark.slow
def test_a_target_without_labels_moves_nothing_of_its_own(setup, step):
    mask = setup.batch["mask"] * [1, 0, 1, 1]
    before = setup.state()
    after, metrics = step(before, setup.batch | {"mask": mask.astype(np.float32)})
    change = after.params["log_variance"] - before.params["log_variance"]
    np.testing.assert_array_equal(np.asarray(change) == 0, [False, True, False, False])
    for name in before.params["model"]:
        moved = largest_change(before.params["model"][name], after.params["model"][name])
        assert (moved == 0) == name.startswith("debye_temperature"), name
    assert metrics["target_count"][1] == metrics["target_sum"][1] == 0
    assert np.isfinite(metrics["loss"])


def test_a_batch_without_any_label_changes_nothing(setup, step):
    before = setup.state()
    after, metrics = step(before, setup.batch | {"mask": np.zeros_like(setup.batch["mask"])})
    assert largest_change(before.params, after.params) == 0
    assert metrics["loss"] == metrics["grad_norm"] == 0


def test_views_are_drawn_from_seed_step_and_example(setup, step):
    state = setup.state()
    other_key = jax.random.key_data(jax.random.key(99))
    losses = [
        float(step(state, setup.batch)[1]["loss"]),
        float(step(setup.state(step=6), setup.batch)[1]["loss"]),
        float(step(state.replace(key=other_key), setup.batch)[1]["loss"]),
        float(step(state, setup.batch | {"index": setup.batch["index"] + 1})[1]["loss"]),
    ]
    assert len(set(losses)) == 4
    assert float(step(state, setup.batch)[1]["loss"]) == losses[0]


@pytest.mark.parametrize(("number", "decay"), [(0, 0.1), (2, 0.25), (500, 0.4)])
def test_the_average_forgets_the_random_start(setup, step, number, decay):
    before = setup.state(step=number)
    after, _ = step(before, setup.batch)
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new, before.ema_params, after.params
    )
    assert largest_change(after.ema_params, expected) < 1e-6
    assert after.step == number + 1
    assert largest_change(before.statistics, after.statistics) == 0
    np.testing.assert_array_equal(before.key, after.key)


@pytest.mark.parametrize("bad", ["labels", "density"])
def test_a_batch_that_is_not_finite_changes_nothing(setup, step, bad):
    """Every bit of the state stays: parameters, averages, optimiser and step count."""
    batch = dict(setup.batch)
    batch[bad] = batch[bad] * np.float32(np.inf) if bad == "labels" else batch[bad] * np.nan
    after, metrics = step(setup.state(), batch)
    assert metrics["skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, after, setup.state())
    after, metrics = step(after, setup.batch)
    expected, _ = step(setup.state(), setup.batch)
    assert metrics["skipped"] == 0
    jax.tree.map(np.testing.assert_array_equal, after, expected)
