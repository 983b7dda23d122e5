"""Task affinities against derivatives taken another way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.step.steps import loss_sums
from densityjax.target_grouping.affinity import affinity_step
from tests.step.test_parallel import make_setup  # noqa: F401  the fixture `setup`

pytestmark = pytest.mark.slow  # groups or steps of a whole dataset are made once for the file


@pytest.fixture(scope="module")
def measured(setup):
    rate = 1e-3
    step = jax.jit(functools.partial(affinity_step, task=setup.task, learning_rate=rate))
    return rate, *jax.device_get(step(setup.state(), setup.batch))


@pytest.mark.slow
def test_lookahead_is_the_change_of_a_step_made_by_hand(setup, measured):
    rate, lookahead, cosine = measured
    task, (state, batch) = setup.task, jax.tree.map(jnp.asarray, (setup.state(), setup.batch))
    count = batch["mask"].sum(0)

    @jax.jit
    def mean(params, target):
        return loss_sums(params, state, batch, task=task)[target] / count[target]

    source, other = 0, 1
    gradient = jax.jit(jax.grad(mean))
    gradients = [gradient(state.params, target)["model"] for target in (source, other)]
    names = [spec.name for spec in task.specs]
    trunk = [key for key in state.params["model"] if not key.startswith(tuple(names))]
    moved = dict(state.params["model"])
    for key in trunk:
        moved[key] = jax.tree.map(lambda p, g: p - rate * g, moved[key], gradients[0][key])
    after = mean(state.params | {"model": moved}, other)
    expected = 1 - after / mean(state.params, other)
    assert lookahead[source, other] == pytest.approx(float(expected), rel=2e-2, abs=2e-6)
    flat = [
        jnp.concatenate([leaf.ravel() for key in trunk for leaf in jax.tree.leaves(g[key])])
        for g in gradients
    ]
    angle = flat[0] @ flat[1] / jnp.linalg.norm(flat[0]) / jnp.linalg.norm(flat[1])
    assert cosine[source, other] == pytest.approx(float(angle), abs=1e-4)


def test_every_target_helps_itself(measured):
    _, lookahead, cosine = measured
    assert np.all(np.diag(lookahead) > 0)
    np.testing.assert_allclose(np.diag(cosine), 1, atol=1e-5)
    np.testing.assert_allclose(cosine, cosine.T, atol=1e-5)


def test_a_target_without_labels_in_the_batch_is_unknown(setup):
    mask = np.array(setup.batch["mask"])
    mask[:, 2] = 0
    step = functools.partial(affinity_step, task=setup.task, learning_rate=1e-3)
    for matrix in jax.jit(step)(setup.state(), setup.batch | {"mask": mask}):
        unknown = np.isnan(matrix)
        assert unknown[2].all()
        assert unknown[:, 2].all()
        assert unknown.sum() == 2 * len(matrix) - 1
