"""Five properties in under a minute on a CPU: for tests and a first look.

Command: python -m densityjax.main --config=configs/smoke.py --workdir=runs/smoke
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """configs/elastic_paper.py with a coarse view and a small model."""
    config = elastic_paper.get_config()
    config.yardsticks = ()
    config.targets = ("bulk_modulus", "volume", "total_energy", "fermi_energy", "is_metal")
    config.data.name = "elastic_densities/grid24"
    config.view.size = 12
    config.view.spacing = 0.6
    config.view.validation_views = 2
    config.view.evaluation_views = 4
    config.model.widths = (8, 16)
    config.model.blocks = (1, 1)
    config.model.head_width = 16
    config.train.epochs = 4
    config.train.evaluate_every_epochs = 2
    return config
