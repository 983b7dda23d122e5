"""Random origins and orientations in training, each alone, both, and neither.

Reproduces: what the random views of the Cartesian cube bring. At test every variant averages the
views that it was trained with.
Command: python -m densityjax.ablation --config=configs/ablations/augmentation.py
  --workdir=runs/augmentation
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Kinds of augmentation."""
    config = paper.get_config()
    config.variants = ConfigDict({
        "none": {"view": {"roll": False, "rotate": False}},
        "origin": {"view": {"roll": True, "rotate": False}},
        "orientation": {"view": {"roll": False, "rotate": True}},
        "both": {"view": {"roll": True, "rotate": True}},
    })
    config.reference = "none"
    config.pools = ConfigDict()
    config.contrasts = ()
    return config
