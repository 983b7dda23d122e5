"""A periodic autoencoder of densities, 48^3 to 6^3 x 16, at the size of two CPU cores.

Reproduces: the autoencoder of arXiv 2605.07227 at its ratio (stride 8, 16 channels, 112 thousand
parameters), periodic, on training folds alone; docs/results/ecd.
Command: python -m densityjax.pretrain --config=configs/ecd/autoencoder.py
--workdir=runs/ecd/autoencoder
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """What configs/ecd have in common: no targets are learned, the whole cell is the view."""
    config = elastic_paper.get_config()
    config.yardsticks = ()
    config.data.name = "elastic_densities/grid48"
    config.data.cache_in_memory = False
    config.input.transform = "log"
    config.view.kind = "fractional"
    config.view.validation_views = 1
    config.view.evaluation_views = 1
    config.model = ConfigDict({
        "name": "autoencoder",
        "widths": (16, 32, 32),  # before each pooling
        "latent": 16,  # channels of the latent
        "head_width": 64,  # of targets, if it is trained on with any
        "implementation": "auto",
        "dtype": "float32",
        "constraints": (),
    })
    config.pretraining.objectives.reconstruction = 1.0
    config.pretraining.decoder_width = 32
    config.optimizer.learning_rate = 3e-3
    config.optimizer.warmup_fraction = 0.1
    config.optimizer.weight_decay = 1e-4
    config.train.batch_size = 8
    config.train.epochs = 8
    config.train.evaluate_every_epochs = 2
    return config
