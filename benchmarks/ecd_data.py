"""Materials of benchmarks/ecd.py: all five folds in one, with latents of several autoencoders."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from densityjax.configs.ecd import autoencoder, latent_composition
from densityjax.data.dataset import open_from_config
from densityjax.data.records import Records
from densityjax.features.composition import MAGPIE_NAMES
from densityjax.results.run_directory import RunDirectory
from densityjax.targets import TargetSpec, get_specs
from densityjax.training.facts import read_facts
from densityjax.training.latents import encoder_from, with_latents
from densityjax.training.pretraining import pretrain
from densityjax.training.setup import load_folds

FOLDS = (0, 1, 2, 3, 4)
EPOCHS = 6  # of an autoencoder
# The autoencoder that saw every row, in training or in the choice of its state.
EVERY_ROW = "all"


@dataclasses.dataclass(frozen=True)
class Materials:
    """Everything that the table is made from.

    Attributes:
        config: of a network on latents.
        records: of all folds, one after the other; densities are read when they are asked for.
        fold: [n] of each.
        specs: the targets.
        encoded: {autoencoder: records with its latents}: 'all', or the fold that it has not seen.
    """

    config: ConfigDict
    records: Records
    fold: np.ndarray
    specs: tuple[TargetSpec, ...]
    encoded: Mapping[str, Records]

    @property
    def magpie(self) -> np.ndarray:
        """[n, 132]."""
        return self.records.features["composition"][:, : len(MAGPIE_NAMES)]

    def latents(self, name: str) -> np.ndarray:
        """[n, g, g, g, L] of one of the autoencoders."""
        return np.stack(self.encoded[name].densities)


def roles_of(name: str) -> tuple[tuple[int, ...], int, int]:
    """Training folds, validation fold and test fold (-1: none) of an autoencoder."""
    if name == EVERY_ROW:
        return (0, 2, 3, 4), 1, -1
    test = int(name)
    validation = (test + 1) % len(FOLDS)
    return tuple(f for f in FOLDS if f not in (test, validation)), validation, test


def train_autoencoder(name: str, workdir: Path, data_dir: str, dataset: str) -> None:
    """A run of densityjax.pretrain, unless it has finished."""
    path = workdir / f"autoencoder_{name}"
    if "finished" in read_facts(path):
        return
    print(path.name, flush=True)
    config = autoencoder.get_config()
    config.data.name, config.data.data_dir = dataset, data_dir
    config.train.epochs = EPOCHS
    config.data.train_folds, config.data.validation_fold, config.data.test_fold = roles_of(name)
    pretrain(config, path)


def load_materials(
    workdir: Path, data_dir: str, dataset: str, names: Sequence[str]
) -> Materials:
    """All folds, and latents of those autoencoders `names` that are there."""
    config = latent_composition.get_config()
    config.data.name, config.data.data_dir = dataset, data_dir
    config.input.encoder = ""  # several here
    builder, specs = open_from_config(config.data), get_specs(config.targets)
    records = load_folds(config, builder, specs, FOLDS, cache_in_memory=False)
    fold = np.concatenate([
        np.full(len(load_folds(config, builder, specs, [f], False, features=False)), f)
        for f in FOLDS
    ])
    splits = [f"fold{f}" for f in FOLDS]
    encoded = {}
    for name in names:
        run = RunDirectory(workdir / f"autoencoder_{name}")
        if run.weights.exists():
            encoded[name] = with_latents(records, encoder_from(run), builder, splits)
    return Materials(config, records, fold, specs, encoded)
