"""An attention CNN on latents of densities: the density alone.

Reproduces: the latent network of arXiv 2605.07227 without composition, a row that it does not
have; docs/results/ecd.
Command: python -m densityjax.main --config=configs/ecd/latent.py --workdir=runs/ecd/latent
(after configs/ecd/autoencoder.py, whose run config.input.encoder names)
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """configs/elastic_paper.py on a latent grid of 6^3 x 16; CBAM attention in every block."""
    config = elastic_paper.get_config()
    config.targets = (
        "bulk_modulus", "shear_modulus", "youngs_modulus", "debye_temperature",
        "formation_energy_per_atom",
    )
    config.data.name = "elastic_densities/grid48"
    config.input.encoder = "runs/ecd/autoencoder"
    config.input.transform = "linear"
    config.view.kind = "fractional"
    config.view.cube_operations = False
    config.view.validation_views = 4
    config.model.stem_stride = 1
    config.model.dropout = 0.2
    config.train.epochs = 40
    return config
