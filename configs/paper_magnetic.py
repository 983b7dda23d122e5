"""The paper's magnetic setting: moments of 2,122 entries from charge and magnetisation.

Reproduces: arXiv 2510.13207. Not run here, as configs/paper_nonmagnetic.py says.
Command: python -m densityjax.main --config=configs/paper_magnetic.py --workdir=runs/magnetic
--config.data.source=FOLDER
"""

from ml_collections import ConfigDict

from densityjax.configs import paper_nonmagnetic


def get_config() -> ConfigDict:
    """configs/paper_nonmagnetic.py with its own data and target."""
    config = paper_nonmagnetic.get_config()
    config.data.name = "materials_project/magnetic_grid64"
    config.targets = ("magnetic_moment",)
    config.data.spin_polarized_only = True
    config.input.channels = 2
    return config
