"""The training step compiled while the data are read, from the shapes of what it will be given."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from densityjax.features.descriptors import descriptor_sizes
from densityjax.features.voxel_targets import voxel_width
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.step import parallel
from densityjax.step.create_task import field_size
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState, train_state_shapes


def start_compiling(
    config: ConfigDict, task: Task, grid: int, channels: int
) -> Future[float] | None:
    """Compiles the training step in a thread; the future holds the seconds that it took."""
    # On a GPU the compiler times candidates, which the work beside it would disturb.
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return None
    state, batch = step_shapes(config, task, grid, channels)
    shapes = parallel.shapes(state, batch, config.train.accumulation_steps)
    return _in_background(parallel.mapped_train_step(task).compile, *shapes)


def _in_background(function: Callable[..., Any], *arguments: Any) -> Future[float]:
    """Calls it in a thread; the future holds the seconds that it took, or its exception."""

    def timed() -> float:
        started = time.monotonic()
        function(*arguments)
        return time.monotonic() - started

    executor = ThreadPoolExecutor(1, "compile")
    future = executor.submit(timed)
    executor.shutdown(wait=False)
    return future


def step_shapes(
    config: ConfigDict, task: Task, grid: int, channels: int = 0
) -> tuple[TrainState, dict]:
    """Shapes of the state and of this host's batches.

    Args:
        grid: voxels along each axis of the stored densities.
        channels: numbers per voxel; 0: config.input.channels.

    Returns:
        (state, batch), leaves `jax.ShapeDtypeStruct`; of the batch [B, ...].
    """

    def leaf(*shape: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    size = config.train.batch_size // jax.process_count()
    channels = channels or config.input.channels
    fields = num_fields(channels, task.field_transform)
    descriptors = sum(descriptor_sizes(config.input).values())
    features = NUM_FEATURES[task.lattice_features] + descriptors
    statistics = {
        "field_mean": leaf(fields),
        "field_std": leaf(fields),
        "feature_mean": leaf(features),
        "feature_std": leaf(features),
        "class_weights": {
            spec.name: leaf(spec.num_outputs)
            for spec in task.specs
            if spec.kind == "classification"
        },
    }
    if task.constraints:
        statistics |= {name: leaf(len(task.specs)) for name in ("label_mean", "label_std")}
    state = train_state_shapes(
        task.model, task.tx, statistics, field_size(config, grid), task.objectives
    )
    batch = {
        "density": leaf(size, grid, grid, grid, channels),
        "lattice": leaf(size, 3, 3),
        "num_electrons": leaf(size),
        "descriptors": leaf(size, descriptors),
        "index": leaf(size, dtype=np.int32),
        "labels": leaf(size, len(task.columns)),
        "mask": leaf(size, len(task.columns)),
    }
    if task.objectives is not None:
        width = voxel_width(task.objectives.names)
        batch["voxels"] = leaf(size, grid, grid, grid, width)
        batch["view"] = leaf(size, task.objectives.decoder.components)
    return state, batch
