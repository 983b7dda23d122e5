"""One, two or three dilations side by side in every block, at the same width.

Reproduces: the multi-scale convolutions of arXiv 2510.13207 as an ablation.
Command: python -m densityjax.ablation --config=configs/ablations/multi_scale.py
  --workdir=runs/multi_scale
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Sets of dilations."""
    config = paper.get_config()
    config.variants = ConfigDict({
        "one_scale": {"model": {"dilations": (1,)}},
        "two_scales": {"model": {"dilations": (1, 2)}},
        "three_scales": {"model": {"dilations": (1, 2, 3)}},
    })
    config.reference = "one_scale"
    config.pools = ConfigDict()
    config.contrasts = ()
    return config
