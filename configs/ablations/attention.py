"""Channel and spatial attention, each alone, both, and neither.

Reproduces: the attention of arXiv 2510.13207 as an ablation.
Command: python -m densityjax.ablation --config=configs/ablations/attention.py
  --workdir=runs/attention
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Kinds of attention."""
    config = paper.get_config()
    config.variants = ConfigDict({
        "none": {"model": {"attention": ()}},
        "channel": {"model": {"attention": ("channel",)}},
        "spatial": {"model": {"attention": ("spatial",)}},
        "both": {"model": {"attention": ("channel", "spatial")}},
    })
    config.reference = "none"
    config.pools = ConfigDict()
    config.contrasts = ()
    return config
