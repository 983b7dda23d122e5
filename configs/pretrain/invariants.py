"""Pretraining: principal components of a density's invariants are predicted from one view.

Command: python -m densityjax.pretrain --config=configs/pretrain/invariants.py --workdir=runs/pre
"""

from ml_collections import ConfigDict

from densityjax.configs.pretrain import masked


def get_config() -> ConfigDict:
    """configs/pretrain/masked.py with another objective."""
    config = masked.get_config()
    config.pretraining.objectives.masked = 0.0
    config.pretraining.objectives.invariants = 1.0
    return config
