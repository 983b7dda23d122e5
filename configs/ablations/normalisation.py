"""What the density is divided by: e/Å^3, rho * V as VASP stores it, logarithm, or two channels.

Reproduces: the choice of `input.transform` (docs/results/choices.md).
Command: python -m densityjax.ablation --config=configs/ablations/normalisation.py
  --workdir=runs/normalisation
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Transforms of the density."""
    config = paper.get_config()
    config.variants = ConfigDict({
        name: {"input": {"transform": name}}
        for name in ("linear", "times_volume", "log", "log_and_linear")
    })
    config.reference = "linear"
    config.pools = ConfigDict()
    config.contrasts = (("log_and_linear", "log"),)
    return config
