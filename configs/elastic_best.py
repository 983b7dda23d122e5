"""The most accurate model: density, composition and structure of the file, everything mixed.

Reproduces: docs/results/accuracy, row "everything"; the ensemble of configs/elastic_ensemble.py
with Gaussian processes on composition and bonds as well.
Command: python -m densityjax.main --config=configs/elastic_best.py --workdir=runs/best
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_ensemble


def get_config() -> ConfigDict:
    """configs/elastic_ensemble.py with all learners."""
    config = elastic_ensemble.get_config()
    config.stack.learners = (
        "network", "invariants", "density", "composition", "both", "all",
    )
    return config
