"""The paper's plain network: eight properties from the charge density and nothing else.

Reproduces: the setting of arXiv 2510.13207 (eight targets, one multi-scale attention 3D CNN) at
the size of two CPU cores; densities and labels of tfds_builders/elastic_densities.
Command: python -m densityjax.main --config=configs/elastic_paper.py --workdir=runs/elastic_paper
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic


def get_config() -> ConfigDict:
    """configs/elastic.py without all that this project adds to the paper's network."""
    config = elastic.get_config()
    config.input.core = "all"
    config.input.invariants = 0
    config.input.identified = 0
    config.input.composition = 0
    config.input.structure = 0
    config.auxiliary.properties = ()
    config.stack.learners = ()
    config.intervals.calibrate = False
    config.model.dropout = 0.0
    config.model.constraints = ()
    config.train.epochs = 40
    return config
