"""The model that ships in densityjax/pretrained/elastic: trained on all folds, small, quick.

Reproduces: densityjax/pretrained/elastic (its README.md has the accuracy), exported by
densityjax export --workdir=runs/pretrained --name=elastic --out=densityjax/pretrained/elastic
Command: python -m densityjax.main --config=configs/elastic_pretrained.py --workdir=runs/pretrained
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_ensemble


def get_config() -> ConfigDict:
    """configs/elastic_ensemble.py over five folds, with what a file says of its elements."""
    config = elastic_ensemble.get_config()
    config.targets = (
        "bulk_modulus", "shear_modulus", "formation_energy_per_atom", "total_energy",
        "fermi_energy", "band_gap", "bandwidth", "volume", "density",
    )
    config.data.train_folds = (1, 2, 3, 4)
    config.data.validation_fold = 0
    config.data.test_fold = -1
    # What codes agree on of a density (docs/results/core). A file names its elements, which then
    # need not be told by it.
    config.input.core = "charge"
    config.input.invariants = 64
    config.input.identified = 0
    config.input.structure = 64
    config.view.evaluation_views = 4
    config.yardsticks = ("composition", "invariants", "all")
    config.stack.learners = ("network", "composition", "all")
    return config
