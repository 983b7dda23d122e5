"""A training step's arguments without a dataset: times do not depend on the values."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from densityjax.step.create_task import create_task, field_size
from densityjax.step.steps import DeviceBatch
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.targets import get_specs
from densityjax.training.compile_ahead import step_shapes


def make_task(config: ConfigDict) -> Task:
    """The task of a run of 1000 steps."""
    return create_task(config, get_specs(config.targets), 1000)


def make_state(config: ConfigDict, task: Task, grid: int, seed: int) -> TrainState:
    """A fresh state; every statistic is 1."""
    shapes, _ = step_shapes(config, task, grid)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes.statistics)
    return create_train_state(task.model, task.tx, ones, seed, field_size(config, grid))


def make_batch(config: ConfigDict, task: Task, grid: int, seed: int) -> DeviceBatch:
    """Leaves [B, ...]: uniform densities and labels in cells of more than 5 Å."""
    _, shapes = step_shapes(config, task, grid)
    key = jax.random.key(seed)

    def fill(leaf, place):
        if leaf.dtype == jnp.int32:
            return jnp.arange(leaf.shape[0], dtype=leaf.dtype)
        return jax.random.uniform(jax.random.fold_in(key, place), leaf.shape, leaf.dtype, 0.1, 1)

    leaves, tree = jax.tree.flatten(shapes)
    batch = tree.unflatten([fill(leaf, place) for place, leaf in enumerate(leaves)])
    batch["lattice"] = batch["lattice"] + 5 * jnp.eye(3)
    return batch
