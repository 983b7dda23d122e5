"""The best state of a finished run, restored to predict with."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from densityjax.config import RULES, check_rules, completed
from densityjax.data.records import Records
from densityjax.features.descriptors import Descriptors
from densityjax.results.applicability import Applicability
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.targets import TargetSpec
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.setup import describe, descriptor_sizes

_SETTINGS = (  # of config.json
    "targets", "seed", "input.channels", "view.kind", "view.evaluation_views", "model", "loss",
    "optimizer", "train.batch_size", "train.num_threads",
)


class RestoreError(UserError):
    """A directory does not hold a finished run; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """The best state of a run, ready to predict, and what was fitted with it.

    Attributes:
        mapped: predict step over all devices, see `parallel.mapped_predict_step`.
    """

    config: ConfigDict
    specs: tuple[TargetSpec, ...]
    descriptors: Descriptors
    statistics: Statistics
    applicability: Applicability
    state: TrainState
    mapped: Callable

    def described(self, records: Records) -> Records:
        """Records with what enters the network beside the density."""
        return describe(records, self.descriptors)


def restore_run(workdir: str | Path) -> TrainedModel:
    """Restores the best state of a run and everything that was fitted with it.

    Raises:
        UserError: `workdir` is not the directory of a finished run, or a file of it is damaged.
    """
    run = RunDirectory(Path(workdir))
    config = completed(run.read_config(*_SETTINGS))
    views = "view.evaluation_views"
    check_rules(config, {views: RULES[views]}, f"{run.config}: ")
    specs = run.read_specs(config.targets)
    statistics = run.load(run.statistics, Statistics.load)
    descriptors = Descriptors(None, {})
    if any(descriptor_sizes(config).values()):
        descriptors = run.load(run.descriptors, Descriptors.load)
    applicability = run.load(run.applicability, Applicability.load)
    task = create_task(config, specs, num_steps=1)  # the length of the schedule is of no use here
    if len(statistics.label_mean) != len(task.specs):
        raise RestoreError(
            f"{run.statistics} is of {len(statistics.label_mean)} targets, {run.config} of "
            f"{len(task.specs)}: they come from different runs; run the training command again"
        )
    template = create_train_state(
        task.model, task.tx, statistics.arrays(), config.seed,
        field_size(config, applicability.grid),
    )
    if not (run.checkpoints / "best").is_dir():
        raise RestoreError(
            f"--workdir={workdir} is not the directory of a finished run, it has no "
            "checkpoints/best: run the training command again"
        )
    with contextlib.closing(Checkpoints(run.path, read_only=True)) as checkpoints:
        restored = checkpoints.restore_best(parallel.replicate(template))
    if restored is None:
        raise RestoreError(f"--workdir={workdir} has no checkpoint: train it further")
    mapped = parallel.mapped_predict_step(task, config.view.evaluation_views)
    return TrainedModel(
        config, specs, descriptors, statistics, applicability, restored.state, mapped
    )


def restore_groups(workdir: str | Path) -> tuple[TrainedModel, ...]:
    """`restore_run` of a run, or of every run that a grouped one joins."""
    return tuple(restore_run(run.path) for run in RunDirectory(Path(workdir)).members())
