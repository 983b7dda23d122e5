"""The end of a run: its best state on the validation and test folds, and what it was trained on."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from densityjax.data.records import Records
from densityjax.results.applicability import fit_applicability
from densityjax.results.averages import average_states
from densityjax.results.baselines import Rows, baseline_metrics
from densityjax.results.identities import identities
from densityjax.results.metrics import average_r2
from densityjax.results.predictions import (
    Predictions,
    predict_records,
    split_metrics,
    write_predictions,
)
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.preemption import NoWatch, Preempted, Watch
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.targets import TargetSpec
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.errors import RunError
from densityjax.training.setup import PreparedRun

log = logging.getLogger("densityjax")


def evaluate_best(
    run: PreparedRun, state: TrainState, checkpoints: Checkpoints, for_prediction: bool = True,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Evaluates the best state on the validation and test folds, beside the baselines.

    With config.ensemble.epochs the predictions of several best states are averaged.

    Writes metrics.json, predictions.csv (test), predictions_validation.csv, and, for
    `densityjax.predict`, applicability.npz.

    Args:
        state: any state of the run, as a template.
        watch: asked before each batch whether to leave off.

    Raises:
        Preempted: it was left off; a rerun evaluates again.
    """
    restored = checkpoints.restore_bests(state, run.config.ensemble.epochs)
    if not restored:
        raise RunError(
            f"{run.workdir} has no checkpoint of a best state to evaluate: remove the directory "
            "and start over"
        )
    predict = _predictor(run, [best.state for best in restored], watch or NoWatch())
    directory = RunDirectory(run.workdir)
    result: dict[str, Any] = {"average": {}, "baselines": {}}
    known = baseline_rows(run.splits["train"], run.specs)
    for role in ("validation", "test"):
        records = run.splits[role]
        log.info("Evaluating %d %s materials", len(records), role)
        predictions = predict(records)
        metrics = split_metrics(predictions, records, run.specs)
        result[role] = metrics
        result["average"][role] = {
            "r2": average_r2(metrics, run.specs),
            "r2_without_identities": average_r2(metrics, run.specs, identities=False),
        }
        result["baselines"][role] = baseline_metrics(
            known, baseline_rows(records, run.specs), run.specs
        )
        if distributed.is_writer():
            write_predictions(directory.predictions(role), predictions, records, run.specs)
    result |= {
        "best_step": restored[0].position["best_step"],
        "best_validation_loss": restored[0].position["best_loss"],
        "view": run.task.view.kind,
        "evaluation_views": run.config.view.evaluation_views,
        "identity_targets": [spec.name for spec in run.specs if spec.identity is not None],
    }
    if run.config.ensemble.epochs > 1:
        result["best_steps"] = [best.position["step"] for best in restored]
    distributed.write_json(directory.metrics, result)
    if for_prediction:
        log.info("Summarising what the model was trained on")
        embedding = predict(run.splits["train"]).embedding
        if distributed.is_writer():
            applicability = fit_applicability(run.splits["train"], embedding)
            applicability.save(directory.applicability)
    return result


def _predictor(
    run: PreparedRun, states: Sequence[TrainState], watch: Watch
) -> Callable[[Records], Predictions]:
    """Predictions of records, averaged over states; raises Preempted where the watch says so."""
    mapped = parallel.mapped_predict_step(run.task, run.config.view.evaluation_views)

    def predict(records: Records) -> Predictions:
        parts = []
        for state in states:
            with watch.saving():
                predictions = predict_records(
                    mapped, state, records, run.specs, run.statistics,
                    run.config.train.batch_size, run.config.train.num_threads,
                    leave_off=watch.requested,
                )
            if predictions is None:
                log.warning("Evaluation left off; the same command makes it again")
                raise Preempted
            parts.append(predictions)
        return average_states(parts)

    return predict


def baseline_rows(records: Records, specs: Sequence[TargetSpec]) -> Rows:
    """The numbers of each record that the baselines see."""
    return Rows(
        labels=records.labels,
        grid_mean=records.num_electrons / records.volume,
        volume=records.volume,
        identities=identities(records, specs),
    )
