"""The cell's own grid against a cube of constant spacing, each with and without lattice features.

Reproduces: the choice of view and of standardisation to a fixed grid (docs/results/choices.md).
Command: python -m densityjax.ablation --config=configs/ablations/view.py --workdir=runs/view
"""

from ml_collections import ConfigDict

from densityjax.configs.ablations import paper


def get_config() -> ConfigDict:
    """Views and the grids that densities are standardised to."""
    config = paper.get_config()
    fractional = {"kind": "fractional"}
    config.variants = ConfigDict({
        "cartesian": {},
        "cartesian_coarse": {"view": {"size": 12, "spacing": 0.6}},
        "cartesian_grid48": {"data": {"name": "elastic_densities/grid48"}},
        "fractional_grid24": {"view": fractional, "data": {"name": "elastic_densities/grid24"}},
        "fractional_grid32": {"view": fractional},
        "fractional_grid32_metric": {"view": fractional, "input": {"lattice_features": "metric"}},
    })
    config.reference = "cartesian"
    config.pools = ConfigDict()
    config.contrasts = (("fractional_grid32", "fractional_grid24"),)
    return config
