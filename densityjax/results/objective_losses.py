"""Losses of objectives without labels, for every record of a split."""

from collections.abc import Callable

import jax
import numpy as np

from densityjax.data.batches import evaluation_batches
from densityjax.data.free_targets import RecordTargets
from densityjax.results.predictions import share_of_rows
from densityjax.step.parallel import gather_rows, predict_batch
from densityjax.step.train_state import TrainState


def measure_objectives(
    mapped: Callable, state: TrainState, targets: RecordTargets, batch_size: int,
    num_threads: int = 2, leave_off: Callable[[], bool] = lambda: False,
) -> dict[str, np.ndarray] | None:
    """Runs `parallel.mapped_objective_step` over all records, in order, decoded in threads.

    Args:
        targets: of the records.
        batch_size: over all processes.
        leave_off: asked before each batch; None is returned once it says so.

    Returns:
        {'loss', ...: [n, O] float64, means over views}, see `evaluate_objectives`.
    """
    records = targets.records
    size = max(batch_size // jax.process_count(), 1)
    rows = share_of_rows(len(records), jax.process_index(), jax.process_count())
    parts = []
    for batch in evaluation_batches(records, size, num_threads, rows, targets):
        if leave_off():
            return None
        parts.append(predict_batch(mapped, state, batch, size))
    own = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return {
        name: leaf[: len(records)].astype(np.float64).mean(1)
        for name, leaf in gather_rows(own).items()
    }


def mean_losses(losses: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[O] means over the records that have the target of an objective, NaN where none has.

    Args:
        losses: [n, O].
        known: [n, O] 1 where a record has it.
    """
    count = known.sum(0)
    total = np.where(known > 0, losses, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
