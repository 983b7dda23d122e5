"""Magnetic moment from charge and magnetisation, on the 154 crystals computed with spin.

Reproduces: the magnetic setting of arXiv 2510.13207 at the size of two CPU cores.
Command: python -m densityjax.main --config=configs/elastic_magnetic.py --workdir=runs/magnetic
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """configs/elastic_paper.py with a second channel and one target."""
    config = elastic_paper.get_config()
    config.targets = ("magnetic_moment",)
    config.data.spin_polarized_only = True
    config.input.channels = 2
    config.train.epochs = 120
    config.train.evaluate_every_epochs = 10
    return config
