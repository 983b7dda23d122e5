"""Pretraining: the trunk of a network and a light decoder learn from densities without labels.

It is a run like one with targets (`run`), without any: the loop, checkpoints and files are the
same. At its end the averaged weights of the best state lie in network.safetensors, which
config.init of another run starts from.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.features.descriptors import BLOCKS
from densityjax.results.objective_losses import mean_losses, measure_objectives
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.runtime.errors import ConfigError
from densityjax.runtime.preemption import Preempted, Watch
from densityjax.step import parallel
from densityjax.step.create_task import objective_names
from densityjax.step.train_state import TrainState
from densityjax.step.weights import save_weights
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.errors import RunError
from densityjax.training.run import carry_out
from densityjax.training.setup import PreparedRun

log = logging.getLogger("densityjax")


def pretrain(
    config: ConfigDict, workdir: str | Path, allow_config_change: bool = False
) -> dict[str, Any]:
    """Learns config.pretraining.objectives and leaves everything in `workdir`.

    Running it again with the same config resumes after the latest checkpoint. Labels and the test
    fold are not read.

    Args:
        config: any training config with objectives; what it says of targets does not count.
        allow_config_change: go on although settings differ that leave the state usable.

    Returns:
        What metrics.json holds, see `evaluate_pretraining`.

    Raises:
        ConfigError: there is no objective; otherwise as `run.train_and_evaluate`.
    """
    config = without_targets(config)
    if not objective_names(config):
        raise ConfigError(
            "config.pretraining.objectives are all 0: nothing is learned; take a config of "
            "configs/pretrain, or --config.pretraining.objectives.masked=1"
        )
    check(config, jax.device_count())
    return carry_out(config, workdir, evaluate_pretraining, allow_config_change)


def without_targets(config: ConfigDict) -> ConfigDict:
    """The config without targets and all that is only theirs."""
    config = config.copy_and_resolve_references()
    config.targets = ()
    config.groups = "all"
    config.ensemble.seeds, config.ensemble.rotate, config.ensemble.epochs = 1, False, 1
    for block in BLOCKS:
        config.input[block] = 0
    config.auxiliary.properties = ()
    config.yardsticks = ()
    config.stack.learners = ()
    config.intervals.calibrate = False
    config.model.constraints = ()
    # Those are of a run that starts from a trunk; here it has to learn.
    config.optimizer.trunk_rate, config.optimizer.head_first = 1.0, 0.0
    return config


def evaluate_pretraining(
    run: PreparedRun, state: TrainState, checkpoints: Checkpoints, watch: Watch
) -> dict[str, Any]:
    """Measures the best state on the validation fold, beside predictors that learned nothing.

    On config.view.validation_views, those by which the state was chosen. Writes metrics.json and
    network.safetensors.

    Args:
        state: any state of the run, as a template.

    Returns:
        {'objectives': {name: {'loss', 'mean', 'interpolation', 'explained'}}, ...}: 'mean' and
        'interpolation' are the losses of the trivial predictors, see `trivial_objectives`;
        'explained' is 1 - loss / the smaller of them.

    Raises:
        Preempted: it was left off; a rerun evaluates again.
    """
    best = checkpoints.restore_best(state)
    if best is None:
        raise RunError(f"{run.workdir} has no checkpoint of a best state: start over")
    records, config = run.splits["validation"], run.config
    targets, views, found = run.validation_targets, config.view.validation_views, {}
    for trivial in (False, True):
        mapped = parallel.mapped_objective_step(run.task, views, trivial)
        with watch.saving():
            part = measure_objectives(
                mapped, best.state, targets, config.train.batch_size, config.train.num_threads,
                watch.requested,
            )
        if part is None:
            log.warning("Evaluation left off; the same command makes it again")
            raise Preempted
        found |= part
    known = run.free.known(records)
    means = {kind: mean_losses(losses, known) for kind, losses in found.items()}
    objectives = {}
    for place, name in enumerate(run.task.objectives.names):
        values = {kind: float(mean[place]) for kind, mean in means.items()}
        values = {kind: value for kind, value in values.items() if np.isfinite(value)}
        others = [values[kind] for kind in ("mean", "interpolation") if kind in values]
        if "loss" in values and others:
            values["explained"] = 1 - values["loss"] / min(others)
        objectives[name] = values
    result = {
        "objectives": objectives,
        "best_step": best.position["best_step"],
        "best_validation_loss": best.position["best_loss"],
        "validation_examples": len(records),
        "view": run.task.view.kind,
        "validation_views": views,
    }
    directory = RunDirectory(run.workdir)
    if distributed.is_writer():
        save_weights(directory.weights, [best.state])
    distributed.write_json(directory.metrics, result)
    return result


def summary(result: dict[str, Any]) -> str:
    """A table of `evaluate_pretraining`, for people."""
    lines = [f"{'objective':18}{'loss':>8}{'mean':>8}{'interpolation':>15}{'explained':>11}"]
    for name, values in result["objectives"].items():
        cells = [
            f"{values[kind]:.4f}" if kind in values else "-"
            for kind in ("loss", "mean", "interpolation", "explained")
        ]
        lines.append(f"{name:18}{cells[0]:>8}{cells[1]:>8}{cells[2]:>15}{cells[3]:>11}")
    return "\n".join(lines)
