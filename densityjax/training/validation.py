"""What the validation fold says of a state: the loss that chooses, and what is logged beside it."""

import dataclasses
from collections.abc import Callable

import numpy as np

from densityjax.results.metrics import average_r2
from densityjax.results.objective_losses import mean_losses, measure_objectives
from densityjax.results.predictions import predict_records, selection_loss, split_metrics
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.training.setup import PreparedRun


@dataclasses.dataclass(frozen=True)
class Validation:
    """What is found of a state.

    Attributes:
        loss: that chooses the best state.
        scalars: what the metric log has beside it.
        shown: to the person who waits.
    """

    loss: float
    scalars: dict[str, float | None]
    shown: dict[str, float]


Validate = Callable[[TrainState, Callable[[], bool]], Validation | None]


def validation_of(run: PreparedRun) -> Validate:
    """A function of (state, whether to leave off, asked before each batch).

    Where a run has targets these choose, and what it learns beside them does not.

    Returns:
        What it finds; None where it was left off.
    """
    return _by_targets(run) if run.specs else _by_objectives(run)


def _by_targets(run: PreparedRun) -> Validate:
    mapped = parallel.mapped_predict_step(run.task, run.config.view.validation_views)
    records, train = run.splits["validation"], run.config.train

    def validate(state: TrainState, leave_off: Callable[[], bool]) -> Validation | None:
        predictions = predict_records(
            mapped, state, records, run.specs, run.statistics, train.batch_size,
            train.num_threads, leave_off=leave_off,
        )
        if predictions is None:
            return None
        metrics = split_metrics(predictions, records, run.specs)
        average = average_r2(metrics, run.specs)
        scalars = {} if average is None else {"average_r2": average}
        for spec in run.specs:
            names = ("r2", "mae") if spec.kind == "regression" else ("accuracy", "roc_auc")
            scalars |= {f"{spec.name}/{name}": metrics[spec.name][name] for name in names}
        shown = {} if average is None else {"validation R2": average}
        return Validation(selection_loss(predictions, run.specs, run.task.loss), scalars, shown)

    return validate


def _by_objectives(run: PreparedRun) -> Validate:
    mapped = parallel.mapped_objective_step(run.task, run.config.view.validation_views)
    train, names = run.config.train, run.task.objectives.names
    targets = run.validation_targets
    known, weights = run.free.known(targets.records), np.asarray(run.task.loss.weights)
    has = known.any(0)  # [O], some of it, see `FreeTargets.check_known`

    def validate(state: TrainState, leave_off: Callable[[], bool]) -> Validation | None:
        found = measure_objectives(
            mapped, state, targets, train.batch_size, train.num_threads, leave_off
        )
        if found is None:
            return None
        means = mean_losses(found["loss"], known)  # [O]
        loss = float(np.average(means[has], weights=weights[has]))
        scalars = {
            f"loss/{name}": float(mean) if np.isfinite(mean) else None
            for name, mean in zip(names, means, strict=True)
        }
        return Validation(loss, scalars, {})

    return validate
