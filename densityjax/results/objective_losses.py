"""Losses of objectives without labels, for every record of a split."""

from collections.abc import Callable

import numpy as np

from densityjax.data.free_targets import RecordTargets
from densityjax.results.predictions import run_over
from densityjax.step.train_state import TrainState


def measure_objectives(
    mapped: Callable, state: TrainState, targets: RecordTargets, batch_size: int,
    num_threads: int = 2, leave_off: Callable[[], bool] = lambda: False,
) -> dict[str, np.ndarray] | None:
    """Losses of all records by `parallel.mapped_objective_step`, see `predictions.run_over`.

    Args:
        targets: of the records.
        batch_size, num_threads, leave_off: see `run_over`.

    Returns:
        {'loss', ...: [n, O] float64, means over views}, see `evaluate_objectives`.
    """
    found = run_over(mapped, state, targets.records, batch_size, num_threads, leave_off, targets)
    if found is None:
        return None
    return {name: leaf.astype(np.float64).mean(1) for name, leaf in found.items()}


def mean_losses(losses: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[O] means over the records that have the target of an objective, NaN where none has.

    Args:
        losses: [n, O].
        known: [n, O] 1 where a record has it.
    """
    count = known.sum(0)
    total = np.where(known > 0, losses, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
