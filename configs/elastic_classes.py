"""Two classes of every crystal: metal or not, and its crystal system.

Reproduces: classification in the setting of configs/elastic.py.
Command: python -m densityjax.main --config=configs/elastic_classes.py --workdir=runs/classes
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic


def get_config() -> ConfigDict:
    """configs/elastic.py with class targets."""
    config = elastic.get_config()
    config.targets = ("is_metal", "crystal_system")
    config.input.lattice_features = "metric"  # the crystal system is the lattice's
    config.train.epochs = 30
    return config
