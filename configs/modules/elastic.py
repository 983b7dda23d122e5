"""Modules of the targets of the shipped dataset, for densityjax.modules: the plain network.

Each module begins from --config.init, which all share. With --config.model.adapter=8 modules are
adapters on a frozen trunk. A new target is fine-tuned at once: with few updates the head first
(config.optimizer.head_first) was a little worse (docs/results/modules).
Command: python -m densityjax.modules train --config=configs/modules/elastic.py
  --config.init=runs/start --hub=runs/hub
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """configs/elastic_paper.py on all targets with many labels."""
    config = elastic_paper.get_config()
    config.yardsticks = ()
    config.targets = (
        "bulk_modulus", "shear_modulus", "debye_temperature", "elastic_anisotropy", "c11", "c12",
        "c44", "refractive_index", "dielectric_constant", "volume", "density", "total_energy",
        "formation_energy_per_atom", "fermi_energy", "band_gap", "bandwidth", "magnetic_moment",
    )
    config.intervals.calibrate = True
    return config
