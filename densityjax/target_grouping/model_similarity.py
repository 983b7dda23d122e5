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

from densityjax.data.batches import BatchSource, training_labels
from densityjax.data.records import load_records
from densityjax.results.predictions import predict_records
from densityjax.step import parallel
from densityjax.step.scalers import fit_statistics
from densityjax.step.task import create_task, field_size
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.target_grouping.affinity import affinity_step
from densityjax.targets import TargetSpec, dataset_targets, get_specs
from densityjax.training.grouped_training import group_config

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
    """
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
                affinity_step, task=fit.task, learning_rate=config.optimizer.learning_rate
            )
        )
        every = max(1, fit.source.steps_per_epoch // PROBES_PER_EPOCH)
        found: list[list[Any]] = [[] for _ in range(epochs)]
        for step, (state, batch) in enumerate(fit.steps()):
            if step % every == every - 1:
                # Read at once: the next step overwrites the state's buffers.
                values = jax.device_get(probe(_local(state), batch))
                found[step // fit.source.steps_per_epoch].append(values)
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
        self.specs = get_specs(config.targets, dataset_targets(builder))
        self.records = load_records(
            builder, [f"fold{fold}" for fold in train_folds], self.specs,
            channels=config.input.channels,
            spin_polarized_only=config.data.spin_polarized_only,
            cache_in_memory=config.data.cache_in_memory,
        )
        batch_size = config.train.batch_size
        num_steps = config.grouping.epochs * -(-len(self.records) // batch_size)
        parallel.check_batch_size(batch_size, config.train.accumulation_steps)
        self.task = create_task(config, self.specs, num_steps)
        self.statistics = fit_statistics(
            self.records, self.specs, field_transform=config.input.transform,
            log_clamp=config.input.log_clamp, lattice_feature_kind=config.input.lattice_features,
            balance_classes=config.loss.balance_classes,
        )
        labels, mask = training_labels(
            self.records, self.specs, self.statistics.label_mean, self.statistics.label_std
        )
        self.source = BatchSource(
            records=self.records, labels=labels, mask=mask, seed=config.seed,
            batch_size=batch_size, num_steps=num_steps, host=0, num_hosts=1,
        )
        self.state = create_train_state(
            self.task.model, self.task.tx, self.statistics.arrays(), config.seed,
            field_size(config, self.records.grid),
        )

    def steps(self) -> Iterator[tuple[TrainState, dict[str, np.ndarray]]]:
        """(State after it, batch [B, ...]) of each step."""
        train_step = parallel.mapped_train_step(self.task)
        state, accumulation = parallel.replicate(self.state), self.config.train.accumulation_steps
        for step in range(len(self.source)):
            batch = self.source[step]
            state, _ = train_step(state, parallel.split_batch(batch, accumulation))
            yield state, batch

    def embedding(self, state: TrainState) -> np.ndarray:
        """What the heads see of each training material, averaged over views, [n, E]."""
        mapped = parallel.mapped_predict_step(self.task, self.config.view.validation_views)
        return predict_records(
            mapped, state, self.records, self.specs, self.statistics,
            self.config.train.batch_size, self.config.train.num_threads,
        ).embedding
