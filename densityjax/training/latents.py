"""config.input.encoder: the trained encoder that it names, and the latents of a dataset's records.

Latents are computed once per dataset and encoder and kept beside the dataset's index.
"""

import dataclasses
import functools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.config import completed
from densityjax.data.dataset import fingerprint
from densityjax.data.record_index import Columns, concatenate, kept_beside, split_key
from densityjax.data.records import Records, load_records
from densityjax.model.create import head_modules
from densityjax.results.manifest import read_manifest
from densityjax.results.pretrained import find_model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import ConfigError, UserError
from densityjax.step.encoder import Encoder, make_encoder
from densityjax.step.scalers import Statistics
from densityjax.step.weights import load_weights
from densityjax.training.errors import RunError
from densityjax.training.seen import UNCLEAR, Seen, seen_of

log = logging.getLogger("densityjax")

_VERSION = 1  # of the columns of the file
_MANY = 500  # records of which the computation is announced: 10 ms to a second each


def encoder_of(
    config: ConfigDict, workdir: Path, dataset: str, fingerprint: str
) -> Encoder | None:
    """`read_encoder` for a run in `workdir`, which it may not lead to see its test fold.

    A run that goes on, or is read, has a copy of its own, which serves where the autoencoder's run
    is there no more.

    Args:
        dataset: full name of the run's dataset.
        fingerprint: of it.

    Raises:
        ConfigError: the encoder was fitted on what the run is judged on.
        RunError: the run began with another encoder.
    """
    if not config.input.encoder:
        return None
    run, kept = RunDirectory(workdir), None
    if run.encoder.exists():
        kept = run.load(run.encoder, Encoder.load)
    try:
        encoder = read_encoder(config)
    except UserError as error:
        if kept is None or isinstance(error, ConfigError):
            raise
        encoder = kept
    if kept is not None and kept.sha256 != encoder.sha256:
        raise RunError(
            f"{run.path} was trained on latents of another autoencoder than that of "
            f"config.input.encoder: {kept.sha256[:12]} there, {encoder.sha256[:12]} now; use "
            "another --workdir"
        )
    _check_folds(
        config, encoder,
        seen_of({"name": dataset, "fingerprint": fingerprint}, encoder.facts["dataset"]),
    )
    return encoder


def read_encoder(config: ConfigDict) -> Encoder | None:
    """The encoder that config.input.encoder names, as the config can use it; None without one.

    Raises:
        UserError: there is none, or a file of it is damaged.
        ConfigError: it reads other densities.
    """
    if not config.input.encoder:
        return None
    run = RunDirectory(find_model(config.input.encoder, "config.input.encoder"))
    encoder = encoder_from(run)
    for key in ("channels", "core"):
        there, here = encoder.settings[key], config.input[key]
        if there != here:
            raise ConfigError(
                f"config.input.{key}={here!r}, but the autoencoder of config.input.encoder read "
                f"{there!r}: take --config.input.{key}={there}, or train another autoencoder"
            )
    return encoder


def check_encoder(config: ConfigDict, there: Encoder | None, where: str) -> None:
    """Raises ConfigError where a trunk was trained with another encoder than the config names.

    Args:
        there: that of the trunk; None where it reads densities.
        where: names the trunk.
    """
    both = (there, read_encoder(config))
    first, second = ("none" if one is None else one.sha256[:12] for one in both)
    if first != second:
        raise ConfigError(
            f"{where} has another trunk: it reads latents of another autoencoder than that of "
            f"config.input.encoder='{config.input.encoder}' ({first} there, {second} here): name "
            "the one that it was trained with, '' for none"
        )


def encoder_from(run: RunDirectory) -> Encoder:
    """The encoder of a finished run of an autoencoder, or of an exported one: averaged parameters.

    Raises:
        ConfigError: the run is of another model.
        RunDirectoryError: it has not finished, or a file is damaged.
        ModelFolderError: a file is not as it was exported.
    """
    if run.manifest.exists():
        read_manifest(run.path)
    config = completed(run.read_config("model.name", "input.channels"))
    if config.model.name != "autoencoder":
        raise ConfigError(
            f"config.input.encoder: {run.path} is a run of config.model.name="
            f"'{config.model.name}': name one of densityjax.pretrain "
            "--config=configs/ecd/autoencoder.py"
        )
    statistics = run.load(run.statistics, Statistics.load)
    (state, *_) = run.load(run.weights, lambda path: load_weights(path, statistics.arrays()))
    facts = run.read_facts("dataset.grid", "dataset.train_folds", "dataset.validation_fold")
    model = {
        name: list(value) if isinstance(value, list | tuple) else value
        for name, value in config.model.items()
        if name in ("widths", "latent")
    }
    heads = {name for target in config.targets for name in head_modules(target)}
    return make_encoder(
        {name: leaf for name, leaf in state.ema_params["model"].items() if name not in heads},
        statistics.field_mean, statistics.field_std,
        {
            "grid": facts["dataset"]["grid"], "channels": config.input.channels,
            "core": config.input.core, "transform": config.input.transform,
            "log_clamp": config.input.log_clamp, "model": model,
        },
        {"commit": facts.get("commit"), "dataset": facts["dataset"]},
    )


def _check_folds(config: ConfigDict, encoder: Encoder, seen: Seen) -> None:
    """Raises ConfigError where the encoder was fitted on what the run is judged on.

    Warns where it was fitted on rows that choose, or may have been.
    """
    data, source, name = config.data, encoder.facts["dataset"], config.input.encoder
    missing = sorted({*data.held_out_elements} - {*source.get("held_out_elements", ())})
    if seen.same and missing:
        raise ConfigError(
            f"config.input.encoder='{name}' was fitted on materials with "
            f"{', '.join(missing)}, which config.data.held_out_elements keeps back: train the "
            "autoencoder with the same"
        )
    met = seen.fitted | seen.chosen
    if data.test_fold in met and not data.held_out_elements:
        raise ConfigError(
            f"config.input.encoder='{name}' was fitted on folds "
            f"{', '.join(map(str, sorted(met)))}, config.data.test_fold={data.test_fold} of this "
            "run among them: train the autoencoder without that fold"
        )
    if seen.learned(data.test_fold) and not data.held_out_elements:
        raise ConfigError(
            f"config.input.encoder='{name}' was fitted on this dataset as one of its "
            f"config.pretraining.sources, config.data.test_fold={data.test_fold} of this run "
            "included: train the autoencoder with the config.data of this run and "
            "config.pretraining.withhold, or without that source"
        )
    if seen.learned(data.validation_fold):
        log.warning(
            "%s was fitted on densities of fold %d, config.data.validation_fold of this run: "
            "scores there, and what is calibrated on them, are not quite those of new materials",
            name, data.validation_fold,
        )
    if seen.unclear:
        log.warning(UNCLEAR, name)


def with_latents(
    records: Records, encoder: Encoder, builder: Any, splits: Sequence[str]
) -> Records:
    """Records whose densities are latents [g, g, g, L], in memory.

    Args:
        records: of these splits, in this order, all or some.

    Raises:
        ConfigError: the dataset is on another grid than the encoder's.
    """
    if records.grid != encoder.grid:
        raise ConfigError(
            f"config.data.name: densities of {builder.info.full_name} are on a grid of "
            f"{records.grid}, those that the autoencoder of config.input.encoder was fitted on, "
            f"of {encoder.grid}: choose that grid, or train another autoencoder"
        )
    identity = fingerprint(builder)
    columns = concatenate([_read(encoder, builder, split, identity) for split in splits])
    latents = columns["latents"][records.rows]  # [n, g, g, g, L]
    return records.with_latents(latents, encoder.stride)


def _read(encoder: Encoder, builder: Any, split: str, identity: str) -> Columns:
    """Latents of a split, in the order of its records, from the file beside the dataset."""
    key = split_key(builder, split, identity, _VERSION, encoder.sha256)
    name = f"latents-{split}-{encoder.sha256[:12]}.npz"
    return kept_beside(
        builder, name, key, functools.partial(_compute, encoder, builder, split)
    )


@dataclasses.dataclass(frozen=True)
class _Densities(Sequence):
    """The densities of records, read as they come."""

    records: Records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.records.density(row)


def _compute(encoder: Encoder, builder: Any, split: str) -> Columns:
    records = load_records(
        builder, [split], (), channels=encoder.settings["channels"], spin_polarized_only=False,
        cache_in_memory=False, core=encoder.settings["core"],
    )
    if len(records) > _MANY:
        print(
            f"Computing latents of {len(records)} records of {builder.info.full_name} {split} "
            "(once)", file=sys.stderr, flush=True,
        )
    return {"latents": encoder.encode(_Densities(records), records.volume)}
