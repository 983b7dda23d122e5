"""A config of pretraining that compiles in seconds."""

from pathlib import Path

from ml_collections import ConfigDict

from densityjax.configs.pretrain import masked
from tests.small_model import SMALL_MODEL

OBJECTIVES = ("masked", "denoising", "nearest_element", "deformation", "invariants")


def small_config(data_dir: Path) -> ConfigDict:
    """All objectives that go together, on `small_dataset`."""
    config = masked.get_config()
    config.data.data_dir, config.data.name = str(data_dir), "elastic_densities/grid24"
    config.update_from_flattened_dict(SMALL_MODEL)
    for name in OBJECTIVES:
        config.pretraining.objectives[name] = 1.0
    config.pretraining.block, config.pretraining.components = 1.8, 4
    config.pretraining.decoder_width = 4
    config.train.epochs, config.train.batch_size = 2, 8
    config.train.evaluate_every_epochs = 1
    return config
