"""The most accurate model of the density alone: a rotated ensemble, mixed with kernels.

Reproduces: docs/results/accuracy, row "density only"; 4 runs of a small trunk with the density's
invariants and the elements that the density tells, each with Gaussian processes on the same.
Command: python -m densityjax.main --config=configs/elastic_ensemble.py --workdir=runs/ensemble
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic


def get_config() -> ConfigDict:
    """configs/elastic.py, four times a smaller trunk."""
    config = elastic.get_config()
    config.ensemble.rotate = True
    # A quarter of the time of the trunk of elastic.py, with the same validation accuracy once
    # mixed (docs/results/accuracy).
    config.view.size = 12
    config.view.spacing = 0.6
    config.model.widths = (16, 32)
    config.model.blocks = (1, 1)
    config.train.epochs = 30
    config.stack.learners = ("network", "invariants", "density")
    return config
