"""The end of a run: its best state on the validation and test folds, and what it was trained on."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.data.records import Records
from densityjax.results.applicability import fit_applicability
from densityjax.results.averages import network_answer
from densityjax.results.baselines import Rows, baseline_metrics
from densityjax.results.identities import identities
from densityjax.results.learner_file import save_learners
from densityjax.results.metrics import average_of, metrics_of
from densityjax.results.predictions import (
    Predictions,
    predict_records,
    split_metrics,
    write_predictions,
)
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.results.stack import IDENTITY
from densityjax.results.yardsticks import Yardstick
from densityjax.runtime import distributed
from densityjax.runtime.files import replace_json
from densityjax.runtime.preemption import NoWatch, Preempted, Watch
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.targets import TargetSpec
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.errors import RunError
from densityjax.training.mixture import (
    NETWORK,
    Said,
    ask,
    facts_of,
    fit_yardsticks,
    mean_name,
    mix,
    names_of,
)
from densityjax.training.setup import PreparedRun

log = logging.getLogger("densityjax")


def evaluate_best(
    run: PreparedRun, state: TrainState, checkpoints: Checkpoints, for_prediction: bool = True,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Evaluates the best state on the validation and test folds, beside the baselines.

    With config.ensemble.epochs the predictions of several best states are averaged.

    With config.stack.learners a mixture of the network and the yardsticks' learners answers.

    Writes metrics.json, predictions.csv (test), predictions_validation.csv, of a mixture
    stack.json, learners.npz and a table for each learner, and, for `densityjax.predict`,
    applicability.npz.

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
    network = {}
    for role in SPLITS:
        log.info("Evaluating %d %s materials", len(run.splits[role]), role)
        network[role] = predict(run.splits[role])
    # Processes that share the work of the network all fit the same yardsticks: no messages needed.
    yardsticks = _fit_yardsticks(run)
    learners = run.config.stack.learners
    said = {
        role: ask(yardsticks, learners, network[role], run.splits[role], run.specs)
        for role in SPLITS
    }
    answers, stack = network, None
    if learners:
        columns = {role: said[role].columns for role in SPLITS}
        stack, answers = mix(columns, network, run.splits, run.specs, run.task.constraints)
    result = _measure(run, network, said, answers)
    directory = RunDirectory(run.workdir)
    if distributed.is_writer():
        _write_tables(run, directory, said, answers, network)
        if stack is not None:
            replace_json(directory.stack, stack.to_json())
            mixing = {name: yardsticks[name] for name in yardsticks if name in learners}
            save_learners(directory.learners, mixing)
    result |= {
        "best_step": restored[0].position["best_step"],
        "best_validation_loss": restored[0].position["best_loss"],
        "view": run.task.view.kind,
        "evaluation_views": run.config.view.evaluation_views,
        "identity_targets": [spec.name for spec in run.specs if spec.identity is not None],
    }
    if yardsticks:
        result["yardsticks"] = facts_of(yardsticks)
    if stack is not None:
        result["stack"] = stack.to_json()
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


def _fit_yardsticks(run: PreparedRun) -> dict[str, Yardstick]:
    names = names_of(run.config)
    if not names:
        return {}
    log.info("Fitting yardsticks: %s", ", ".join(names))
    with run.facts.timed("yardsticks"):
        return fit_yardsticks(run.config, run.splits["train"], run.specs, names)


def _measure(
    run: PreparedRun, network: Mapping[str, Predictions], said: Mapping[str, Said],
    answers: Mapping[str, Predictions],
) -> dict[str, Any]:
    """What metrics.json says of accuracy."""
    result: dict[str, Any] = {"average": {}, "baselines": {}}
    known = baseline_rows(run.splits["train"], run.specs)
    for role, records in run.splits.items():
        if role not in SPLITS:
            continue
        result[role] = split_metrics(answers[role], records, run.specs)
        result["average"][role] = average_of(result[role], run.specs)
        others = {name: said[role].means[name] for name in run.config.yardsticks}
        if answers is not network:
            others[NETWORK] = network[role].values
        result["baselines"][role] = baseline_metrics(
            known, baseline_rows(records, run.specs), run.specs
        ) | {
            name: metrics_of(run.specs, records.labels, values) for name, values in others.items()
        }
    return result


def _write_tables(
    run: PreparedRun, directory: RunDirectory, said: Mapping[str, Said],
    answers: Mapping[str, Predictions], network: Mapping[str, Predictions],
) -> None:
    """Tables of predictions: of what answers, of each learner of a mixture, of yardsticks."""
    for role, answer in answers.items():
        records = run.splits[role]
        write_predictions(directory.predictions(role), answer, records, run.specs)
        means = {mean_name(name): values for name, values in said[role].means.items()}
        for name, values in (said[role].columns | means).items():
            if name == IDENTITY:
                continue
            spread = network[role].spread
            if name != NETWORK:
                spread = {target: np.zeros(len(records)) for target in spread}
            own = dataclasses.replace(answer, values=values, spread=spread)
            write_predictions(directory.learner_predictions(name, role), own, records, run.specs)


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
        return network_answer(parts, run.specs, run.task.constraints)

    return predict


def baseline_rows(records: Records, specs: Sequence[TargetSpec]) -> Rows:
    """The numbers of each record that the baselines see."""
    return Rows(
        labels=records.labels,
        grid_mean=records.num_electrons / records.volume,
        volume=records.volume,
        identities=identities(records, specs),
    )
