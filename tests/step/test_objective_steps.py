"""Steps of objectives: over devices, and beside targets."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from densityjax.step import parallel, steps
from densityjax.training.pretraining import without_targets
from densityjax.training.setup import PreparedRun, prepare_run
from tests.small_pretraining import small_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(small_dataset: Path) -> PreparedRun:
    """Before its first step; no file is written."""
    return prepare_run(without_targets(small_config(small_dataset)), small_dataset / "nowhere")


def test_the_number_of_devices_changes_nothing(prepared: PreparedRun):
    """One update on 8 devices and on one, of a batch whose last rows are padding."""
    batch = prepared.source[2]
    assert 0 < batch["mask"].all(1).sum() < len(batch["mask"])
    found = []
    for devices in (tuple(jax.devices()), tuple(jax.devices()[:1])):
        own = None if len(devices) == jax.device_count() else devices
        state = parallel.replicate(prepared.initial_state(), own)
        step = parallel.mapped_train_step(prepared.task, own)
        found.append(jax.device_get(step(state, parallel.split_batch(batch, 1, own))))
    (first, metrics), (second, others) = found
    np.testing.assert_allclose(metrics["target_sum"], others["target_sum"], rtol=1e-4)
    np.testing.assert_array_equal(metrics["target_count"], batch["mask"].sum(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        first.params, second.params,
    )


def test_objectives_stand_beside_targets(prepared: PreparedRun, small_dataset: Path):
    """Losses of both are those of each alone; objectives read no label, targets no free target."""
    config = small_config(small_dataset)
    config.targets, config.yardsticks, config.stack.learners = ("bulk_modulus",), (), ()
    config.input.invariants, config.input.identified = 0, 0
    both = prepare_run(config, small_dataset / "nowhere")
    state, batch = both.initial_state(), both.source[0]
    assert batch["mask"].shape == (8, 6)
    targets = dataclasses.replace(both.task, objectives=None)
    objectives = prepared.task
    state_alone = state.replace(params=state.params | {
        "model": {k: v for k, v in state.params["model"].items() if "bulk_modulus" not in k}
    })

    def sums(task, state, columns, **changes):
        own = batch | {k: batch[k][:, columns] for k in ("labels", "mask")} | changes
        return jax.jit(
            lambda params, own: steps.loss_sums(params, state, own, task=task)
        )(state.params, own)

    found = sums(both.task, state, slice(None))
    spoiled = {"voxels": batch["voxels"] * np.nan, "view": batch["view"] * np.nan}
    np.testing.assert_allclose(found[:1], sums(targets, state, slice(0, 1), **spoiled), rtol=1e-5)
    alone = sums(objectives, state_alone, slice(1, 6))
    np.testing.assert_allclose(found[1:], alone, rtol=1e-5)
