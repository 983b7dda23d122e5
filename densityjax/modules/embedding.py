"""What modules see of materials: the pooled trunk of every one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from densityjax.data.batches import evaluation_batches
from densityjax.data.records import Records
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.step import parallel
from densityjax.step.create_task import create_task
from densityjax.step.members import members_program
from densityjax.step.scalers import Statistics
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState


def trunk_task(config: ConfigDict) -> Task:
    """The task of a network without heads; of constraints that of the input alone is kept."""
    own = config.copy_and_resolve_references()
    own.model.constraints = tuple(
        name for name in own.model.constraints if name == "even_spin"
    )
    own.auxiliary.properties = ()
    for name in own.pretraining.objectives:
        own.pretraining.objectives[name] = 0.0
    return create_task(own, (), num_steps=1)


def embed(
    trunks: Sequence[Mapping[str, Any]], config: ConfigDict, statistics: Statistics,
    records: Records, rows: np.ndarray, at_once: bool | None = None,
) -> np.ndarray:
    """Embeddings of records by every trunk, averaged over the evaluation views.

    Trunks at once, by vmap, were faster than in turn on one H100 (JAX 0.11.2, batches of 16,
    float32): 3 times for 4 and for 17 trunks of configs/elastic.py, 2 and 12 times for those of 12
    voxels and widths (16, 32). On 16 CPU cores they took 1.5 times as long with 4 of the former,
    and as long with 8 of the latter.

    Args:
        trunks: parameters of M networks without their heads.
        config: of any of them.
        statistics: of any of them; the scalers of the field are those of all.
        records: need no features.
        rows: [n] of the records.
        at_once: see above; None for where it was faster: on accelerators.

    Returns:
        [M, n, W] the pooled trunk alone: what stands beside it is the same for all modules.
    """
    if at_once is None:
        at_once = jax.default_backend() != "cpu"
    program = members_program(trunk_task(config), config.view.evaluation_views, at_once=at_once)
    members = program.place([_state(trunk, statistics) for trunk in trunks])
    size, beside = config.train.batch_size, len(statistics.feature_mean)
    descriptors = beside - NUM_FEATURES[config.input.lattice_features]
    parts = []
    for batch in evaluation_batches(records, size, config.train.num_threads, rows):
        shape = len(batch["lattice"]), len(trunks), descriptors
        batch["descriptors"] = np.zeros(shape, np.float32)
        parts.append(parallel.predict_batch(program, members, batch, size)[1])  # [b, M, E]
    embedding = np.concatenate(parts).swapaxes(0, 1)
    return embedding[:, :, : embedding.shape[2] - beside]


def _state(trunk: Mapping[str, Any], statistics: Statistics) -> TrainState:
    """A trunk as a state that predicts."""
    arrays = statistics.arrays(labels=True) | {"class_weights": {}}
    return TrainState((), (), {"model": trunk}, (), (), arrays)
