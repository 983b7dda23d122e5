"""An attention CNN on latents of densities, with the composition that the file names.

Reproduces: the latent network of arXiv 2605.07227 with Magpie features; docs/results/ecd.
Command: python -m densityjax.main --config=configs/ecd/latent_composition.py
--workdir=runs/ecd/latent_composition
(after configs/ecd/autoencoder.py, whose run config.input.encoder names)
"""

from ml_collections import ConfigDict

from densityjax.configs.ecd import latent


def get_config() -> ConfigDict:
    """configs/ecd/latent.py and principal components of the composition's features."""
    config = latent.get_config()
    config.input.composition = 96
    return config
