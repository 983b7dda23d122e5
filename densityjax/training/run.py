"""A run from its config to its results: `train_and_evaluate` is the table of contents."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from densityjax.config import check, check_target_weights
from densityjax.data.dataset import resolve_targets
from densityjax.runtime import distributed, preemption
from densityjax.runtime.claim import claimed
from densityjax.runtime.errors import ConfigError
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.compatibility import identity, may_differ
from densityjax.training.evaluate import evaluate_best
from densityjax.training.facts import RunFacts
from densityjax.training.initial import read_start, say_start
from densityjax.training.loop import train
from densityjax.training.setup import prepare_run, write_run_files


def train_and_evaluate(
    config: ConfigDict, workdir: str | Path, for_prediction: bool = True,
    allow_config_change: bool = False,
) -> dict[str, Any]:
    """Trains a model, evaluates its best state, and leaves everything in `workdir`.

    Running it again with the same config resumes after the latest checkpoint, or only evaluates.

    Args:
        for_prediction: leave what `densityjax.predict` needs beside the model, which takes a
          prediction of every training material.
        allow_config_change: go on although settings differ that leave the state usable.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: a setting has a value that it cannot have; before anything is opened.
        RunError, DatasetError: the dataset or the work directory does not fit, or the loss is not
          finite time after time; the last good state is in the checkpoint.
        CheckpointError: one cannot be written, or is of another run.
        UserError: another process trains in `workdir`.
        Preempted: by SIGTERM or SIGINT, after saving; the same call resumes.
    """
    check(config, jax.device_count())
    _refuse_sources(config)
    evaluate = functools.partial(evaluate_best, for_prediction=for_prediction)
    return carry_out(config, workdir, evaluate, allow_config_change, resolve_targets)


def _refuse_sources(config: ConfigDict) -> None:
    for key in ("sources", "exclude"):
        if config.pretraining[key]:
            raise ConfigError(
                f"config.pretraining.{key} is for densityjax.pretrain, which learns from densities "
                "without labels: leave it empty where targets are learned"
            )


def carry_out(
    config: ConfigDict, workdir: str | Path, evaluate: Callable[..., dict[str, Any]],
    allow_config_change: bool, resolve: Callable[[ConfigDict], ConfigDict] | None = None,
) -> dict[str, Any]:
    """A run of whatever is learned, see `train_and_evaluate`.

    Args:
        evaluate: of (run, state, checkpoints, watch), what metrics.json holds.
        resolve: spells out the targets of a config that names none; None where it has none.
    """
    with (
        preemption.watch(config.train.watchdog_seconds) as watch,
        claimed(workdir) if distributed.is_writer() else contextlib.nullcontext(),
    ):
        return _carry_out(config, Path(workdir), evaluate, allow_config_change, resolve, watch)


def _carry_out(
    config: ConfigDict, workdir: Path, evaluate: Callable[..., dict[str, Any]],
    allow_config_change: bool, resolve: Callable[[ConfigDict], ConfigDict] | None,
    watch: preemption.Watch,
) -> dict[str, Any]:
    facts = RunFacts(workdir, config.seed)
    with facts.timed("total"):
        if not config.targets and resolve is not None:
            config = resolve(config)
            check_target_weights(config)
        start = read_start(config, workdir)
        run = prepare_run(config, workdir, facts, True, allow_config_change, start)
        with facts.timed("initialise"):
            state = jax.block_until_ready(run.initial_state())
        say_start(run, state.params["model"])
        facts.note(parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params["model"])))
        # Only now: a config that does not work must not block its directory.
        write_run_files(run)
        checkpoints = Checkpoints(
            workdir, identity=identity(config, run.dataset),
            may_differ=may_differ(allow_config_change, "config."), num_best=config.ensemble.epochs,
        )
        with contextlib.closing(checkpoints):
            state = train(run, state, checkpoints, watch)
            with facts.timed("evaluate"):
                result = evaluate(run, state, checkpoints, watch=watch)
    facts.finish()
    return result
