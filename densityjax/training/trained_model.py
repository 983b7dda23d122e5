"""The best states of a finished run, restored to predict with."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from densityjax.config import RULES, check_rules, completed
from densityjax.data.records import Records
from densityjax.features.descriptors import Descriptors, descriptor_sizes
from densityjax.results.applicability import Applicability
from densityjax.results.learner_file import load_learners
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import Stack, read_stack
from densityjax.results.yardsticks import Yardstick
from densityjax.runtime.errors import UserError
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size
from densityjax.step.encoder import Encoder
from densityjax.step.members import PredictMembers, members_program
from densityjax.step.scalers import Statistics
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.step.weights import load_weights
from densityjax.targets import TargetSpec

_SETTINGS = (  # of config.json
    "targets", "seed", "input.channels", "view.kind", "view.evaluation_views", "model", "loss",
    "optimizer", "train.batch_size", "train.num_threads",
)


class RestoreError(UserError):
    """A directory does not hold a finished run; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What an ensemble mixes with the mean of its members' networks.

    Attributes:
        specs: all targets.
        learners: config.stack.learners.
    """

    specs: tuple[TargetSpec, ...]
    learners: tuple[str, ...]
    stack: Stack
    yardsticks: Mapping[str, Yardstick]
    descriptors: Descriptors


@dataclasses.dataclass(frozen=True, eq=False)  # a key, by identity
class TrainedModel:
    """The best state of a run, ready to predict, and what was fitted with it.

    Attributes:
        state: the best.
        program: predicts with several states; the same object for runs that differ in data and
          seed alone.
        more_states: the next best, averaged with it (config.ensemble.epochs).
        yardsticks: those whose learners are mixed with the network.
        stack: the weights; None where the network answers alone.
        whole: of a member of an ensemble, the mixture of all of them.
        encoder: what it sees densities through; None where it sees them as they are.
    """

    config: ConfigDict
    specs: tuple[TargetSpec, ...]
    descriptors: Descriptors
    statistics: Statistics
    applicability: Applicability
    state: TrainState
    program: PredictMembers
    more_states: tuple[TrainState, ...] = ()
    yardsticks: Mapping[str, Yardstick] = dataclasses.field(default_factory=dict)
    stack: Stack | None = None
    whole: Mixture | None = None
    encoder: Encoder | None = None

    @property
    def channels(self) -> int:
        """Numbers per voxel of what the network sees."""
        return self.config.input.channels if self.encoder is None else self.encoder.channels

    @property
    def grid(self) -> int:
        """Voxels along each axis of it."""
        return _network_grid(self.applicability, self.encoder)

    @property
    def needs_features(self) -> bool:
        """Whether it sees more than the density on its grid."""
        return bool(self.descriptors.size or self.yardsticks)

    @property
    def states(self) -> tuple[TrainState, ...]:
        """All whose predictions are averaged, the best first."""
        return (self.state, *self.more_states)

    def described(self, records: Records) -> Records:
        """Records with what enters the network beside the density."""
        return records.described(self.descriptors)


def restore_run(
    workdir: str | Path, whole: Mixture | None = None, quick: bool = False, mixed: bool = True
) -> TrainedModel:
    """Restores the best state of a run and everything that was fitted with it.

    Args:
        whole: of a member of an ensemble, in the place of the member's own mixture.
        quick: to predict few materials, see `PredictMembers`.
        mixed: with what is mixed with the network, which an exported member does not have.

    Raises:
        UserError: `workdir` is not the directory of a finished run, or a file of it is damaged.
    """
    run = RunDirectory(Path(workdir))
    config = completed(run.read_config(*_SETTINGS))
    counts = {
        key: RULES[key] for key in ("view.evaluation_views", "ensemble.epochs", "input.core")
    }
    check_rules(config, counts, f"{run.config}: ")
    run.check_predicts()
    specs = run.read_specs(config.targets)
    statistics = run.load(run.statistics, Statistics.load)
    descriptors, yardsticks, stack = Descriptors(None, {}), {}, None
    if any(descriptor_sizes(config.input).values()) or config.stack.learners:
        descriptors = run.load(run.descriptors, Descriptors.load)
    applicability = run.load(run.applicability, Applicability.load)
    encoder = run.load(run.encoder, Encoder.load) if config.input.encoder else None
    task = create_task(config, specs, num_steps=1)  # the length of the schedule is of no use here
    if len(statistics.label_mean) != len(task.specs):
        raise RestoreError(
            f"{run.statistics} is of {len(statistics.label_mean)} targets, {run.config} of "
            f"{len(task.specs)}: they come from different runs; run the training command again"
        )
    if run.weights.exists():
        scalers = statistics.arrays(bool(task.constraints))
        states = run.load(run.weights, lambda path: load_weights(path, scalers))
        states = [parallel.replicate(state) for state in states]
    else:
        grid = _network_grid(applicability, encoder)
        states = _best_states(run, config, task, statistics, grid)
    program = members_program(task, config.view.evaluation_views, quick)
    best, *others = states
    if mixed and config.stack.learners and whole is None:
        yardsticks = run.load(run.learners, lambda path: load_learners(path, specs))
        stack = run.load(run.stack, lambda path: read_stack(path, task.constraints))
    return TrainedModel(
        config, specs, descriptors, statistics, applicability, best, program, tuple(others),
        yardsticks, stack, whole, encoder,
    )


def _network_grid(applicability: Applicability, encoder: Encoder | None) -> int:
    return applicability.grid // (1 if encoder is None else encoder.stride)


def _best_states(
    run: RunDirectory, config: ConfigDict, task: Task, statistics: Statistics, grid: int
) -> list[TrainState]:
    """Those of the checkpoints, the best first."""
    # Orbax takes half a second, which a model that was exported does without.
    from densityjax.training.checkpoint import Checkpoints

    if not (run.checkpoints / "best").is_dir():
        raise RestoreError(
            f"--workdir={run.path} is not the directory of a finished run, it has no "
            "checkpoints/best: run the training command again"
        )
    template = create_train_state(
        task.model, task.tx, statistics.arrays(bool(task.constraints)), config.seed,
        field_size(config, grid), task.objectives,
    )
    with contextlib.closing(Checkpoints(run.path, read_only=True)) as checkpoints:
        restored = checkpoints.restore_bests(parallel.replicate(template), config.ensemble.epochs)
    if not restored:
        raise RestoreError(f"--workdir={run.path} has no checkpoint: train it further")
    return [found.state for found in restored]


def restore_members(
    workdir: str | Path, quick: bool = False
) -> tuple[tuple[TrainedModel, ...], ...]:
    """`restore_run` of every run that a joined one consists of, or of a run alone.

    Returns:
        For each member of an ensemble (else for the run as one) the models of its groups.
    """
    run = RunDirectory(Path(workdir))
    members, whole = run.members(), None
    if members != (run,) and run.stack.exists():
        config = completed(run.read_config("targets", "model", "stack.learners"))
        specs, constraints = run.read_specs(config.targets), tuple(config.model.constraints)
        whole = Mixture(
            specs, tuple(config.stack.learners),
            run.load(run.stack, lambda path: read_stack(path, constraints)),
            run.load(run.learners, lambda path: load_learners(path, specs)),
            run.load(run.descriptors, Descriptors.load),
        )
    return tuple(
        tuple(restore_run(group.path, whole, quick) for group in member.groups())
        for member in members
    )
