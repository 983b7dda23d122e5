"""Do physical constraints on the outputs cost accuracy, or gain any?

Reproduces: the first of the future work of arXiv 2510.13207, at the size of
configs/ablations/paper_cpu.py, in one trunk of ten targets.
Result: docs/results/constraints/README.md; 90 runs of 31 to 42 s on a shared machine of 2 cores.
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
    # In the loss; the same for all variants but one.
    config.base.loss.target_weights = ConfigDict({"youngs_modulus": 1.0, "poisson_ratio": 1.0})
    config.variants = ConfigDict({
        "none": {"model": {"constraints": ()}},
        "elastic": {"model": {"constraints": ("elastic",)}},
        "gap": {"model": {"constraints": ("gap",)}},
        "positive": {"model": {"constraints": ("positive",)}},
        "all": {"model": {"constraints": ("elastic", "gap", "positive")}},
        # Labels of the derived targets, the less predictable ones, train K and G a tenth as much.
        "elastic_light": {
            "model": {"constraints": ("elastic",)},
            "loss": {"target_weights": {"youngs_modulus": 0.1, "poisson_ratio": 0.1}},
        },
    })
    config.reference = "none"
    config.pools = ConfigDict()
    config.contrasts = ()
    config.tuning.key = ""
    return config
