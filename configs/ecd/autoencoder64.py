"""A periodic autoencoder of densities, 64^3 to 8^3 x 16, for densities of your own.

Reproduces: the autoencoder of arXiv 2605.07227 at its ratio. Not trained here.
Command: python -m densityjax.pretrain --config=configs/ecd/autoencoder64.py
--config.data.source=FOLDER --workdir=runs/ecd/autoencoder64
"""

from ml_collections import ConfigDict

from densityjax.configs.ecd import autoencoder


def get_config() -> ConfigDict:
    """configs/ecd/autoencoder.py on a folder of densities."""
    config = autoencoder.get_config()
    config.data.name = "density_folder/grid64"
    return config
