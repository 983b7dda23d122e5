"""The autoencoder of arXiv 2605.07227 at its own size, 128^3 to 16^3 x 16, periodic.

Reproduces: its autoencoder. Not trained here: a step at batch 1 takes what docs/results/ecd says.
Command: python -m densityjax.pretrain --config=configs/ecd/autoencoder128.py
--config.data.source=FOLDER --workdir=runs/ecd/autoencoder128
"""

from ml_collections import ConfigDict

from densityjax.configs.ecd import autoencoder


def get_config() -> ConfigDict:
    """configs/ecd/autoencoder.py on a folder of densities, for more epochs."""
    config = autoencoder.get_config()
    config.data.name = "density_folder/grid128"
    config.train.epochs = 50
    config.train.evaluate_every_epochs = 5
    config.train.num_threads = 8
    return config
