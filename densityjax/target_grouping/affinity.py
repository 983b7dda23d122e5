"""How training one target moves the loss of another, from one multi-task model.

Pure functions on one device's batch.
"""

import jax
import jax.numpy as jnp

from densityjax.step.steps import DeviceBatch, loss_sums
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState


def affinity_step(
    state: TrainState, batch: DeviceBatch, *, task: Task, learning_rate: float
) -> tuple[jax.Array, jax.Array]:
    """Task affinities of one batch; the state is not changed.

    Lookahead: the trunk takes a gradient step on target i alone, heads stay, and the loss of target
    j on the same batch and views changes by the fraction 1 - L_j(after) / L_j(before) (inter-task
    affinity, arXiv 2109.04617, eq. 1). Cosine: between the gradients of two targets' losses with
    respect to the trunk.

    Args:
        batch: leaves [B, ...], see `steps.gradient_step`.
        learning_rate: of the step on one target.

    Returns:
        (lookahead [T, T], from target i (row) to target j (column); cosine [T, T]); NaN where the
        batch has no label of one of the two.
    """
    heads = {f"{spec.name}_{part}" for spec in task.specs for part in ("hidden", "out")}
    model = state.params["model"]
    trunk = {name: leaf for name, leaf in model.items() if name not in heads}
    count = batch["mask"].sum(0)  # [T]

    def means(trunk):
        params = state.params | {"model": model | trunk}
        return loss_sums(params, state, batch, task=task) / jnp.maximum(count, 1.0)  # [T]

    before, pull = jax.vjp(means, trunk)
    gradients = jax.lax.map(lambda row: pull(row)[0], jnp.eye(len(task.specs)))  # leaves [T, ...]
    rows = jnp.concatenate(
        [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)], axis=1
    )  # [T, P]
    lengths = jnp.linalg.norm(rows, axis=1)  # [T]
    cosine = (rows @ rows.T) / (lengths[:, None] * lengths)

    def change(gradient):
        moved = jax.tree.map(lambda leaf, slope: leaf - learning_rate * slope, trunk, gradient)
        return 1.0 - means(moved) / before

    lookahead = jax.lax.map(change, gradients)  # [T, T]
    known = (count > 0)[:, None] & (count > 0)
    return jnp.where(known, lookahead, jnp.nan), jnp.where(known, cosine, jnp.nan)
