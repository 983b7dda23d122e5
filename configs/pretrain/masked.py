"""Pretraining of the trunk of elastic.py: blocks of a density are hidden and predicted.

Half of the blocks of 1.2 Å of each view; 684 densities, labels and test fold unread; about 5
minutes on 2 cores. Train from it with --config=configs/elastic.py --config.init=runs/masked.
Command: python -m densityjax.pretrain --config=configs/pretrain/masked.py --workdir=runs/masked
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic


def get_config() -> ConfigDict:
    """configs/elastic.py with an objective in the place of targets."""
    config = elastic.get_config()
    config.targets = ()
    config.pretraining.objectives.masked = 1.0
    return config
