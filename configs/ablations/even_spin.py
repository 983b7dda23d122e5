"""Does a network that is even in the magnetisation predict better than one that sees random signs?

The 171 crystals with spin alone; at the size of configs/ablations/paper_cpu.py.
Result: docs/results/constraints/README.md.
Command: python -m densityjax.ablation --config=configs/ablations/even_spin.py
  --workdir=runs/even_spin
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper_cpu


def get_config() -> ConfigDict:
    """The base of paper_cpu on charge and magnetisation, without tuning."""
    config = paper_cpu.get_config()
    base = config.base
    base.targets = ("magnetic_moment", "bulk_modulus", "formation_energy_per_atom")
    base.data.spin_polarized_only = True
    base.input.channels = 2
    base.train.epochs = 60
    config.variants = ConfigDict({
        "neither": {"view": {"flip_spin": False}},
        "flip_spin": {},
        "even_spin": {"model": {"constraints": ("even_spin",)}},
    })
    config.reference = "flip_spin"
    config.pools = ConfigDict()
    config.contrasts = ()
    config.tuning.key = ""
    return config
