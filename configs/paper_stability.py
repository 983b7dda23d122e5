"""The paper's stability setting: dynamical stability of 638 entries as a class, AUC 0.96.

Reproduces: arXiv 2510.13207. Not run here, as configs/paper_nonmagnetic.py says.
Command: python -m densityjax.main --config=configs/paper_stability.py --workdir=runs/stability
--config.data.source=FOLDER
"""

from ml_collections import ConfigDict

from densityjax.configs import paper_nonmagnetic


def get_config() -> ConfigDict:
    """configs/paper_nonmagnetic.py with its own data and target."""
    config = paper_nonmagnetic.get_config()
    config.data.name = "materials_project/stability_grid64"
    config.targets = ("is_stable",)
    config.loss.balance_classes = True
    return config
