"""The only place that maps over devices and places arrays on them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from densityjax import steps
from densityjax.train_state import TrainState

PyTree = Any


def mapped_train_step(task: steps.Task) -> Callable:
    """`steps.train_step` over all devices: (state, batch [D, A, b, ...]) -> (state, metrics).

    The state has no device axis: it is the same everywhere, and its buffers are donated.
    """
    return jax.pmap(
        functools.partial(steps.train_step, task=task),
        axis_name=steps.AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
    )


def mapped_predict_step(task: steps.Task, num_views: int) -> Callable:
    """`steps.predict_step` over all devices: (state, batch [D, b, ...]) -> leaves [D, b, ...]."""
    return jax.pmap(
        functools.partial(steps.predict_step, task=task, num_views=num_views),
        axis_name=steps.AXIS,
        in_axes=(None, 0),
        out_axes=0,
    )


def check_batch_size(batch_size: int, accumulation_steps: int) -> None:
    """Raises ValueError if the global batch does not divide over devices and micro-batches."""
    devices = jax.device_count()
    if batch_size % (devices * accumulation_steps):
        raise ValueError(
            f"config.train.batch_size={batch_size} does not divide over {devices} devices x "
            f"{accumulation_steps} accumulation steps: make it a multiple of "
            f"{devices * accumulation_steps}"
        )


def replicate(state: TrainState) -> TrainState:
    """Places a state on every device the way the mapped step returns it.

    A state placed otherwise, fresh or restored, would cost a second compilation.
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), (steps.AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(state, sharding)


def split_batch(batch: dict[str, np.ndarray], accumulation_steps: int) -> dict[str, np.ndarray]:
    """[B, ...] -> [D, A, b, ...], B being this host's share of the global batch."""
    devices = jax.local_device_count()
    return {
        name: leaf.reshape(devices, accumulation_steps, -1, *leaf.shape[1:])
        for name, leaf in batch.items()
    }


def predict_batch(mapped: Callable, state: TrainState, batch: dict[str, np.ndarray]) -> PyTree:
    """Runs a mapped predict step on a host batch of any size and returns host arrays [B, ...].

    Rows are padded to a multiple of the devices with copies of the first, and the copies dropped.
    """
    devices = jax.local_device_count()
    size = len(next(iter(batch.values())))
    padding = -size % devices
    padded = {
        name: np.concatenate([leaf, np.repeat(leaf[:1], padding, axis=0)]).reshape(
            devices, -1, *leaf.shape[1:]
        )
        for name, leaf in batch.items()
    }
    result = mapped(state, padded)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:size], result)
