"""What models say of the similarity of targets: features of single-task models, task affinities.

Models are trained on the training folds alone, with `config.grouping.epochs` epochs of the config's
own model, view and optimiser; there is no validation, the averaged parameters of the end are used.
"""

import dataclasses
import functools
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from densityjax.config import check
from densityjax.results.predictions import predict_records
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.target_grouping.affinity import affinity_step
from densityjax.targets import TargetSpec, dataset_targets, get_specs
from densityjax.training.grouped_training import group_config
from densityjax.training.latents import read_encoder
from densityjax.training.setup import count_steps, fit_inputs, load_folds

log = logging.getLogger("densityjax")

PROBES_PER_EPOCH = 4


@dataclasses.dataclass(frozen=True)
class ModelSimilarities:
    """What was asked for; the rest is empty.

    Attributes:
        features: {target: [n, E]} embedding of each training material, in the order of the
          records, by a model trained on that target alone.
        lookahead: [epochs, T, T] mean over the epoch of the fraction by which a step on target i
          lowers the loss of target j.
        cosine: [epochs, T, T] mean cosine of the trunk's gradients.
    """

    features: dict[str, np.ndarray]
    lookahead: np.ndarray
    cosine: np.ndarray


def fit_model_similarities(
    config: ConfigDict, builder: Any, train_folds: Sequence[int], specs: Sequence[TargetSpec],
    which: Collection[str],
) -> ModelSimilarities:
    """Trains what the similarities in `which` need.

    Args:
        config: of training, with the section `grouping`.
        builder: TFDS builder of the prepared dataset.
        train_folds: the folds whose materials are trained on; no others are read.
        which: of 'transfer' (a model per target), 'task_affinity' and 'gradient_cosine' (one model
          of all targets, for both).

    Raises:
        ConfigError, DatasetError: the config does not work, or the dataset lacks labels.
    """
    check(config, jax.device_count())
    config = config.copy_and_resolve_references()
    config.auxiliary.properties = ()  # similarities are of the targets alone
    config.pretraining.objectives = dict.fromkeys(config.pretraining.objectives, 0.0)
    epochs, size = config.grouping.epochs, len(specs)
    features = {}
    if "transfer" in which:
        for spec in specs:
            log.info("Training %s alone, for its features", spec.name)
            fit = _Fit(group_config(config, (spec.name,)), builder, train_folds)
            *_, (state, _) = fit.steps()
            features[spec.name] = fit.embedding(state)
    lookahead, cosine = (np.full((epochs, size, size), np.nan) for _ in range(2))
    if {"task_affinity", "gradient_cosine"} & set(which):
        log.info("Training %d targets together, for their affinities", size)
        names = tuple(spec.name for spec in specs)
        fit = _Fit(group_config(config, names), builder, train_folds)
        probe = jax.jit(
            functools.partial(
                affinity_step, task=fit.inputs.task, learning_rate=config.optimizer.learning_rate
            )
        )
        every = max(1, fit.inputs.source.steps_per_epoch // PROBES_PER_EPOCH)
        found: list[list[Any]] = [[] for _ in range(epochs)]
        for step, (state, batch) in enumerate(fit.steps()):
            if step % every == every - 1:
                # Read at once: the next step overwrites the state's buffers.
                values = jax.device_get(probe(_local(state), batch))
                found[step // fit.inputs.source.steps_per_epoch].append(values)
        for epoch, probes in enumerate(found):
            lookahead[epoch] = np.nanmean([probe[0] for probe in probes], axis=0)
            cosine[epoch] = np.nanmean([probe[1] for probe in probes], axis=0)
    return ModelSimilarities(features, lookahead, cosine)


def _local(state: TrainState) -> TrainState:
    """The state on one device, as the probe takes it."""
    return jax.tree.map(np.asarray, state)


class _Fit:
    """A model of some targets in training, without validation or files."""

    def __init__(self, config: ConfigDict, builder: Any, train_folds: Sequence[int]):
        self.config = config
        specs = get_specs(config.targets, dataset_targets(builder))
        self.records = load_folds(
            config, builder, specs, train_folds, config.data.cache_in_memory,
            encoder=read_encoder(config),
        )
        num_steps = count_steps(config, len(self.records), config.grouping.epochs)
        self.inputs = fit_inputs(config, specs, self.records, num_steps)

    def steps(self) -> Iterator[tuple[TrainState, dict[str, np.ndarray]]]:
        """(State after it, batch [B, ...]) of each step."""
        train_step = parallel.mapped_train_step(self.inputs.task)
        state = parallel.replicate(self.inputs.initial_state())
        accumulation, source = self.config.train.accumulation_steps, self.inputs.source
        for step in range(len(source)):
            batch = source[step]
            state, _ = train_step(state, parallel.split_batch(batch, accumulation))
            yield state, batch

    def embedding(self, state: TrainState) -> np.ndarray:
        """What the heads see of each training material, averaged over views, [n, E]."""
        inputs = self.inputs
        mapped = parallel.mapped_predict_step(inputs.task, self.config.view.validation_views)
        return predict_records(
            mapped, state, inputs.source.records, inputs.specs, inputs.statistics,
            self.config.train.batch_size, self.config.train.num_threads,
        ).embedding
