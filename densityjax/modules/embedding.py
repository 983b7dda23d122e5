"""What modules see of materials: the pooled trunk of every one, from one program."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from densityjax.data.batches import evaluation_batches
from densityjax.data.records import Records
from densityjax.model import views
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.runtime import compile_cache
from densityjax.step.create_task import create_task
from densityjax.step.scalers import Statistics
from densityjax.step.steps import apply_model
from densityjax.step.task import Task


def trunk_task(config: ConfigDict) -> Task:
    """The task of a network without heads; of constraints that of the input alone is kept."""
    own = config.copy_and_resolve_references()
    own.model.constraints = tuple(
        name for name in own.model.constraints if name == "even_spin"
    )
    own.auxiliary.properties = ()
    for name in own.pretraining.objectives:
        own.pretraining.objectives[name] = 0.0
    # The optimiser, which differs between runs, is of no use here.
    return dataclasses.replace(create_task(own, (), num_steps=1), tx=None, ema_decay=0.0)


def embed_step(
    trunks: Any, statistics: Any, batch: Mapping[str, jax.Array], *, task: Task, num_views: int,
    at_once: bool,
) -> jax.Array:
    """Embeddings by M trunks, averaged over evaluation views, which are made once for all.

    Args:
        trunks: parameters, leaves [M, ...].
        statistics: scalers that all have.
        batch: leaves [b, ...]: density, lattice, num_electrons, descriptors.
        at_once: vmap over the trunks, instead of one after the other.

    Returns:
        [M, b, E].
    """

    def one_view(view: jax.Array) -> jax.Array:
        make = jax.vmap(lambda *args: views.evaluation_view(task.view, *args, view))
        field, lattice = make(batch["density"], batch["lattice"])

        def one_trunk(trunk: Any) -> jax.Array:
            return apply_model(
                task, {"model": trunk}, statistics, field, lattice, batch["num_electrons"],
                batch["descriptors"],
            )[1]

        return jax.vmap(one_trunk)(trunks) if at_once else jax.lax.map(one_trunk, trunks)

    return jax.lax.map(one_view, jnp.arange(num_views)).mean(0)


@functools.lru_cache(maxsize=8)
def _program(task: Task, num_views: int, at_once: bool) -> Any:
    return jax.jit(functools.partial(
        embed_step, task=task, num_views=num_views, at_once=at_once
    ))


def embed(
    trunks: Sequence[Mapping[str, Any]], config: ConfigDict, statistics: Statistics,
    records: Records, rows: np.ndarray, at_once: bool | None = None,
) -> np.ndarray:
    """Embeddings of records by every trunk.

    Args:
        trunks: parameters of M networks without their heads.
        config: of any of them.
        statistics: of any of them; the scalers of the field are those of all.
        records: need no features.
        rows: [n] of the records.
        at_once: vmap over trunks; None where that is the faster way: on accelerators, while on a
          CPU convolutions with a kernel for each trunk are slower than the trunks in turn.

    Returns:
        [M, n, W] the pooled trunk alone: what stands beside it is the same for all modules.
    """
    if at_once is None:
        at_once = jax.default_backend() != "cpu"
    task = trunk_task(config)
    run = _program(task, config.view.evaluation_views, at_once)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trunks)
    size, beside = config.train.batch_size, len(statistics.feature_mean)
    descriptors = beside - NUM_FEATURES[config.input.lattice_features]
    parts = []
    for batch in evaluation_batches(records, size, config.train.num_threads, rows):
        count = len(batch["lattice"])
        places = np.minimum(np.arange(size), count - 1)  # the last stands for those that lack
        padded = {name: leaf[places] for name, leaf in batch.items()}
        padded["descriptors"] = np.zeros((size, descriptors), np.float32)
        with compile_cache.unwritten():  # see parallel.TrainStep
            found = run(stacked, statistics.arrays(labels=True), padded)
        parts.append(np.asarray(found)[:, :count])
    embedding = np.concatenate(parts, axis=1)
    return embedding[:, :, : embedding.shape[2] - beside]
