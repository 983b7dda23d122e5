"""Which invariants of the cell reach the model beside the density.

Reproduces: the choice of `input.lattice_features` (docs/results/choices.md).
Command: python -m densityjax.ablation --config=configs/ablations/lattice_features.py
  --workdir=runs/lattice_features
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Lattice features."""
    config = paper.get_config()
    config.variants = ConfigDict({
        name: {"input": {"lattice_features": name}}
        for name in ("none", "volume_per_electron", "metric")
    })
    config.reference = "none"
    config.pools = ConfigDict()
    config.contrasts = (("metric", "volume_per_electron"),)
    return config
