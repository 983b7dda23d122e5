"""Losses of objectives beside those of targets; over devices: training/test_pretraining.py."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from densityjax.step import steps
from densityjax.step.create_task import create_task
from densityjax.training.pretraining import without_targets
from densityjax.training.setup import prepare_run
from tests.small_pretraining import small_config

pytestmark = pytest.mark.slow


def test_objectives_stand_beside_targets(small_dataset: Path):
    """Losses of both are those of each alone; objectives read no label, targets no free target."""
    config = small_config(small_dataset)
    config.targets, config.yardsticks, config.stack.learners = ("bulk_modulus",), (), ()
    config.input.invariants, config.input.identified = 0, 0
    both = prepare_run(config, small_dataset / "nowhere")
    state, batch = both.initial_state(), both.source[0]
    assert batch["mask"].shape == (8, 6)
    targets = dataclasses.replace(both.task, objectives=None)
    objectives = create_task(without_targets(config), (), 9)
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
