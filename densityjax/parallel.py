"""The only place that maps over devices and places arrays on them."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from densityjax import steps
from densityjax.train_state import TrainState

PyTree = Any
Devices = Sequence[jax.Device] | None  # None: all of this host


def mapped_train_step(task: steps.Task, devices: Devices = None) -> Callable:
    """`steps.train_step` over devices: (state, batch [D, A, b, ...]) -> (state, metrics).

    The state has no device axis: it is the same everywhere, and its buffers are donated.
    """
    return jax.pmap(
        functools.partial(steps.train_step, task=task),
        axis_name=steps.AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=(0,),
        devices=devices,
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
    if batch_size < 1 or accumulation_steps < 1:
        raise ValueError(
            "config.train.batch_size and config.train.accumulation_steps must be at least 1"
        )
    if batch_size % (devices * accumulation_steps):
        raise ValueError(
            f"config.train.batch_size={batch_size} does not divide over {devices} devices x "
            f"{accumulation_steps} accumulation steps: make it a multiple of "
            f"{devices * accumulation_steps}"
        )


def replicate(state: TrainState, devices: Devices = None) -> TrainState:
    """Places a state on every device the way the mapped step returns it.

    A state placed otherwise, fresh or restored, would cost a second compilation.
    """
    mesh = jax.sharding.Mesh(np.asarray(devices or jax.local_devices()), (steps.AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(state, sharding)


def split_batch(
    batch: dict[str, np.ndarray], accumulation_steps: int, devices: Devices = None
) -> dict[str, np.ndarray]:
    """[B, ...] -> [D, A, b, ...], B being this host's share of the global batch."""
    num_devices = len(devices or jax.local_devices())
    return {
        name: leaf.reshape(num_devices, accumulation_steps, -1, *leaf.shape[1:])
        for name, leaf in batch.items()
    }


def place_ahead(
    batches: Iterable[dict[str, np.ndarray]], accumulation_steps: int, devices: Devices = None,
    ahead: int = 1,
) -> Iterator[dict[str, jax.Array]]:  # fmt: skip
    """Split batches in the same order, on the devices before they are asked for.

    A copy to a device starts without waiting for its end, so the copy of the next batches goes on
    while the devices work on this one.

    Args:
        batches: of this host, [B, ...].
        ahead: batches on the devices beside the one in use.
    """
    mesh = jax.sharding.Mesh(np.asarray(devices or jax.local_devices()), (steps.AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(steps.AXIS))
    placed: collections.deque = collections.deque()
    for batch in batches:
        placed.append(jax.device_put(split_batch(batch, accumulation_steps, devices), sharding))
        if len(placed) > ahead:
            yield placed.popleft()
    yield from placed


def predict_batch(
    mapped: Callable, state: TrainState, batch: dict[str, np.ndarray], min_size: int = 0
) -> PyTree:
    """Runs a mapped predict step on a host batch of any size and returns host arrays [B, ...].

    Rows are padded to `min_size`, so that batches up to it share one compilation, and on to a
    multiple of the devices, with copies of the first; the copies are dropped.
    """
    devices = jax.local_device_count()
    size = len(next(iter(batch.values())))
    padded_size = max(size, min_size)
    padding = padded_size + -padded_size % devices - size
    padded = {
        name: np.concatenate([leaf, np.repeat(leaf[:1], padding, axis=0)]).reshape(
            devices, -1, *leaf.shape[1:]
        )
        for name, leaf in batch.items()
    }
    result = mapped(state, padded)
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:])[:size], result)
