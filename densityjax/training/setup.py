"""What a run is made of before its first step: data, scalers, task, and the step that compiles."""

import dataclasses
import functools
import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from densityjax.config import NO_FOLD, check_grid
from densityjax.data.batches import BatchSource, training_labels
from densityjax.data.dataset import fingerprint, open_from_config
from densityjax.data.free_targets import FreeTargets, RecordTargets, fit_free_targets
from densityjax.data.records import Records, load_records
from densityjax.data.unlabelled import say, with_sources
from densityjax.features.auxiliary import auxiliary_labels
from densityjax.features.descriptors import (
    Descriptors,
    Features,
    descriptor_sizes,
    fit_descriptors,
)
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import distributed
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size, objective_names, reads_atoms
from densityjax.step.encoder import Encoder
from densityjax.step.scalers import Statistics, fit_statistics
from densityjax.step.task import Task
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.targets import TargetSpec, dataset_targets, get_specs, specs_to_json
from densityjax.training.compatibility import check_hosts_share, check_same_data, check_workdir
from densityjax.training.compile_ahead import start_compiling
from densityjax.training.evaluation_labels import check_evaluation_labels
from densityjax.training.facts import RunFacts, read_facts
from densityjax.training.latents import encoder_of, with_latents
from densityjax.training.mixture import names_of
from densityjax.training.start import Start

log = logging.getLogger("densityjax")

ROLES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class FittedInputs:
    """What training steps need, fitted to the training records alone.

    Attributes:
        specs: the targets that are reported; auxiliary ones are in `task` alone.
        start: where the state comes from; None: at random.
        free: what records say of themselves, of a run with objectives without labels.
    """

    config: ConfigDict
    specs: tuple[TargetSpec, ...]
    descriptors: Descriptors
    statistics: Statistics
    task: Task
    source: BatchSource
    start: Start | None
    free: FreeTargets | None

    def described(self, records: Records) -> Records:
        """Records with what enters the network beside the density, see `Records.described`."""
        return records.described(self.descriptors)

    def initial_state(self) -> TrainState:
        """The state before the first step, on one device.

        Raises:
            ConfigError: the model does not fit the view or the grid.
        """
        state = create_train_state(
            self.task.model, self.task.tx, self.statistics.arrays(bool(self.task.constraints)),
            self.config.seed,
            field_size(self.config, self.source.records.grid), self.task.objectives,
        )
        if self.start is None:
            return state
        objectives = () if self.task.objectives is None else self.task.objectives.names
        return self.start.put_into(state, self.task.specs, self.statistics, objectives)


@dataclasses.dataclass(frozen=True)
class PreparedRun(FittedInputs):
    """Everything that a run is made of before its first step.

    Attributes:
        splits: {'train', 'validation', 'test': records}; of pretraining the first two.
        dataset: what run.json says of the data.
        encoder: what the densities of `splits` were encoded by, if they are latents.
        compiling: of the step, in another thread; its result is the seconds that it took.
    """

    workdir: Path
    splits: dict[str, Records]
    dataset: dict[str, Any]
    train_step: parallel.TrainStep
    compiling: Future[float] | None
    facts: RunFacts
    encoder: Encoder | None

    @functools.cached_property
    def validation_targets(self) -> RecordTargets:
        """What the validation records say of themselves, of a run with objectives."""
        return self.free.of(self.splits["validation"], self.config.data.cache_in_memory)


def prepare_run(
    config: ConfigDict, workdir: Path, facts: RunFacts | None = None, compile_ahead: bool = False,
    allow_config_change: bool = False, start: Start | None = None,
) -> PreparedRun:
    """Loads data, fits statistics on the training rows, builds the task; writes no file.

    Args:
        config: as `densityjax.config.check` accepts it, with its targets spelled out; without any,
          which is pretraining, the test fold is not read.
        facts: where to note what is found; None begins new ones.
        compile_ahead: compile the training step meanwhile, unless the run has finished.
        allow_config_change: see `train_and_evaluate`.
        start: what config.init names, see `training.initial`.

    Raises:
        RunError: `workdir` holds another run.
        DatasetError, ConfigError: the dataset lacks what the config asks for.
    """
    check_workdir(config, workdir, allow_config_change)
    facts = facts or RunFacts(workdir, config.seed)
    with facts.timed("build"):
        builder = open_from_config(config.data, "required" if config.targets else "optional")
        specs = get_specs(config.targets, dataset_targets(builder)) if config.targets else ()
        data_fingerprint = fingerprint(builder)
        encoder = encoder_of(config, workdir, builder.info.full_name, data_fingerprint)
        check_same_data(workdir, data_fingerprint)
        # Without densities, at once: their number and size are all that the compiler needs.
        # Latents are in memory as they come.
        cache = config.data.cache_in_memory and encoder is None
        records, more = load_training(config, builder, specs, False, not cache, encoder)
        say(more)
        check_grid(config, records.grid)
        num_steps = count_steps(config, len(records), config.train.epochs)
        compiling = None
        if compile_ahead and "finished" not in read_facts(workdir):
            compiling = start_compiling(
                config, create_task(config, specs, num_steps), records.grid, records.channels
            )
        if cache:
            records, _ = load_training(config, builder, specs, True, True, encoder)
        splits = {"train": records}
        for role in ROLES[1:] if specs else ROLES[1:2]:
            splits[role] = load_role(config, builder, specs, role, cache, True, encoder)
        if specs:
            check_evaluation_labels(splits, specs, config.data.validation_fold)
        inputs = fit_inputs(config, specs, splits["train"], num_steps, start)
        if not specs:  # then the objectives choose the best state
            inputs.free.check_known(splits["validation"])
        splits = {
            role: inputs.source.records if role == "train" else inputs.described(records)
            for role, records in splits.items()
        }
    dataset = _describe_dataset(config.data, builder, data_fingerprint, splits)
    dataset |= {"pretraining": more} if more else {}
    facts.note(dataset=dataset)
    if encoder is not None:
        facts.note(encoder={"sha256": encoder.sha256, **encoder.facts})
    return PreparedRun(
        **{field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)},
        workdir=workdir, splits=splits, dataset=dataset, compiling=compiling, facts=facts,
        encoder=encoder,
        train_step=parallel.mapped_train_step(inputs.task),
    )


def load_folds(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec], folds: Sequence[int],
    cache_in_memory: bool, features: bool = True, encoder: Encoder | None = None, **filters: Any,
) -> Records:
    """Records of some folds as the config wants them; see `load_records` for the rest.

    Args:
        features: take those that the config needs, too.
        encoder: that of config.input.encoder, which makes latents of densities; None where these
          are not read.
    """
    splits = [f"fold{fold}" for fold in folds]
    records = load_records(
        builder, splits, specs, channels=config.input.channels,
        spin_polarized_only=config.data.spin_polarized_only,
        cache_in_memory=cache_in_memory and encoder is None,
        features=features and reads_features(config), core=config.input.core,
        atoms=reads_atoms(config), **filters,
    )
    return records if encoder is None else with_latents(records, encoder, builder, splits)


def load_training(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec], cache_in_memory: bool,
    features: bool = True, encoder: Encoder | None = None,
) -> tuple[Records, dict[str, Any]]:
    """All that a run learns from, and what `with_sources` says of it; see `load_folds`.

    Of pretraining, which has no `specs`, the records of config.pretraining.sources are among them.
    """
    own = load_role(config, builder, specs, "train", cache_in_memory, features, encoder)
    if specs:
        return own, {}
    needed = {"features": features and reads_features(config), "atoms": reads_atoms(config)}
    return with_sources(config, builder, own, **needed)


def load_role(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec], role: str,
    cache_in_memory: bool, features: bool = True, encoder: Encoder | None = None,
) -> Records:
    """Records of 'train', 'validation' or 'test'; see `load_folds`."""
    data, held_out = config.data, tuple(config.data.held_out_elements)
    folds = {
        "train": tuple(data.train_folds),
        "validation": (data.validation_fold,),
        "test": (data.validation_fold if data.test_fold == NO_FOLD else data.test_fold,),
    }
    # Held-out elements are tested wherever they are, and are nowhere else.
    if role == "test" and held_out:
        chosen = sorted(fold for group in folds.values() for fold in group)
        return load_folds(
            config, builder, specs, chosen, cache_in_memory, features, encoder,
            with_any_of=held_out,
        )
    fraction = (data.train_fraction, config.seed) if role == "train" else (1.0, 0)
    return load_folds(
        config, builder, specs, folds[role], cache_in_memory, features, encoder,
        without_elements=held_out, fraction=fraction,
    )


def count_steps(config: ConfigDict, num_records: int, epochs: int) -> int:
    """Batches of a run; the last one of an epoch may be padded."""
    return epochs * -(-num_records // config.train.batch_size)


def reads_features(config: ConfigDict) -> bool:
    """Whether a run needs the features of its records."""
    return bool(
        any(descriptor_sizes(config.input).values()) or names_of(config)
        or "invariants" in objective_names(config)
    )


def fit_inputs(
    config: ConfigDict, specs: tuple[TargetSpec, ...], records: Records, num_steps: int,
    start: Start | None = None,
) -> FittedInputs:
    """Fits scalers to the training records and builds the task and this host's batches.

    Args:
        records: of the training folds.
        num_steps: batches of the whole run.
        start: a trained model whose scalers replace the fitted ones.

    Raises:
        DatasetError: a target has fewer than two different labels.
    """
    descriptors, features = _descriptors(config, records, start)
    records = dataclasses.replace(
        records, features=features, descriptors=descriptors(features, len(records))
    )
    task = create_task(config, specs, num_steps)
    labels = records.labels | auxiliary_labels(config.auxiliary.properties, records.species)
    learned = dataclasses.replace(records, labels=labels)
    statistics = fit_statistics(
        learned, task.specs, field_transform=config.input.transform,
        log_clamp=config.input.log_clamp,
        lattice_feature_kind=config.input.lattice_features,
        balance_classes=config.loss.balance_classes,
    )
    if start is not None:
        statistics = start.scalers_in(statistics)
    labels, mask = training_labels(
        learned, task.specs, statistics.label_mean, statistics.label_std
    )
    free, of_records = None, None
    if task.objectives is not None:
        free = fit_free_targets(records, task.objectives.names, config.pretraining.components)
        of_records, known = free.of(records, config.data.cache_in_memory), free.known(records)
        # Their labels come with each batch.
        labels = np.concatenate([labels, np.zeros_like(known)], axis=1)
        mask = np.concatenate([mask, known], axis=1)
    source = BatchSource(
        records=records, labels=labels, mask=mask, seed=config.seed,
        batch_size=config.train.batch_size, num_steps=num_steps, host=jax.process_index(),
        num_hosts=jax.process_count(), free=of_records,
    )
    return FittedInputs(config, specs, descriptors, statistics, task, source, start, free)


def _descriptors(
    config: ConfigDict, records: Records, start: Start | None
) -> tuple[Descriptors, Features]:
    """(Descriptors, complete features of the training rows), fitted to them or of the start."""
    cells = records.lattice, records.num_electrons
    identify = "density" in names_of(config)
    if start is not None and start.descriptors is not None:
        return start.described(records.features, records.species, *cells, identify)
    return fit_descriptors(
        records.features, records.species, *cells, descriptor_sizes(config.input), identify
    )


def _describe_dataset(
    data: ConfigDict, builder: Any, fingerprint: str, splits: dict[str, Records]
) -> dict[str, Any]:
    return {
        "name": builder.info.full_name,
        "version": str(builder.version),
        "fingerprint": fingerprint,
        **{f"{role}_examples": len(records) for role, records in splits.items()},
        "grid": splits["train"].grid * splits["train"].coarsening,
        "train_folds": list(data.train_folds),
        "validation_fold": data.validation_fold,
        "test_fold": data.test_fold,
        "held_out_elements": list(data.held_out_elements),
    }


def write_run_files(run: PreparedRun) -> None:
    """Writes what belongs to a run whatever its training gives; of several processes, one does.

    Raises:
        DisagreementError, RunError: the processes do not share the data and the directory.
    """
    directory = RunDirectory(run.workdir)
    if distributed.is_writer():
        run.workdir.mkdir(parents=True, exist_ok=True)
        run.statistics.save(directory.statistics)
        if reads_features(run.config):
            run.descriptors.save(directory.descriptors)
        if run.encoder is not None:
            run.encoder.save(directory.encoder)
        if run.free is not None and run.free.atoms is not None:
            run.free.atoms.save(directory.average_atoms)
    distributed.write_json(directory.config, json.loads(run.config.to_json_best_effort()))
    distributed.write_json(directory.targets, specs_to_json(run.specs))
    check_hosts_share(run.workdir, run.dataset)
