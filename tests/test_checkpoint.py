"""States come back as they were saved, also when the buffers have been donated since."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from densityjax import parallel
from densityjax.checkpoint import Checkpoints
from densityjax.models.msa3dcnn import MSA3DCNN
from densityjax.train_state import TrainState, create_train_state


@pytest.fixture
def state() -> TrainState:
    model = MSA3DCNN(targets=(("bulk_modulus", 1),), widths=(4,), blocks=(1,), head_width=4)
    statistics = {
        "field_mean": np.zeros(1), "field_std": np.ones(1), "feature_mean": np.zeros(1),
        "feature_std": np.ones(1), "class_weights": {},
    }  # fmt: skip
    return parallel.replicate(create_train_state(model, optax.adam(1e-3), statistics, 0, 8))


def test_round_trip_and_placement(state: TrainState, tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_latest(state) is None
    assert checkpoints.restore_best(state) is None
    checkpoints.save(state, 3, {"step": 3, "best_loss": 0.1 + 0.2}, best=True)
    later = state.replace(step=state.step + 7)
    checkpoints.save(later, 7, {"step": 7}, best=False)
    checkpoints.close()

    checkpoints = Checkpoints(tmp_path)
    best, position = checkpoints.restore_best(state)
    assert position == {"step": 3, "best_loss": 0.1 + 0.2}
    for saved, restored in zip(jax.tree.leaves(state), jax.tree.leaves(best), strict=True):
        assert np.array_equal(saved, restored)
        assert restored.dtype == saved.dtype
        assert restored.sharding == saved.sharding
    latest, position = checkpoints.restore_latest(state)
    assert position == {"step": 7}
    assert int(latest.step) == 7
    checkpoints.close()


def test_saved_before_donation(state: TrainState, tmp_path: Path):
    """`save` returns before the write is done; what follows may overwrite the buffers."""
    checkpoints = Checkpoints(tmp_path)
    expected = jax.device_get(state.params)
    scramble = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    template = jax.tree.map(jnp.copy, state)
    checkpoints.save(state, 1, {"step": 1}, best=True)
    jax.block_until_ready(scramble(state))
    restored, _ = checkpoints.restore_latest(template)
    checkpoints.close()
    for before, after in zip(jax.tree.leaves(expected), jax.tree.leaves(restored.params)):
        assert np.array_equal(before, after)
