"""Do physical constraints on the outputs cost accuracy, or gain any?

Reproduces: the first of the future work of arXiv 2510.13207, at the size of
configs/ablations/paper_cpu.py, in one trunk of ten targets.
Result: docs/results/constraints/README.md.
Command: python -m densityjax.ablation --config=configs/ablations/constraints.py
  --workdir=runs/constraints
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper_cpu


def get_config() -> ConfigDict:
    """The base of paper_cpu with other targets, without tuning; variants are the constraints."""
    config = paper_cpu.get_config()
    config.base.targets = (
        "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio", "debye_temperature",
        "volume", "density", "formation_energy_per_atom", "band_gap", "is_metal",
    )
    config.variants = ConfigDict({
        "none": {"model": {"constraints": ()}},
        "elastic": {"model": {"constraints": ("elastic",)}},
        "gap": {"model": {"constraints": ("gap",)}},
        "positive": {"model": {"constraints": ("positive",)}},
        "all": {"model": {"constraints": ("elastic", "gap", "positive")}},
    })
    config.reference = "none"
    config.pools = ConfigDict()
    config.contrasts = ()
    config.tuning.key = ""
    return config
