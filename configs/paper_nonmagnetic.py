"""The paper's main setting: eight properties of nonmagnetic crystals, grid 64, whole unit cells.

Reproduces: arXiv 2510.13207, 5,590 nonmagnetic Materials Project entries, R2 up to 0.94. Not run
here: it needs the Materials Project dataset (tfds_builders/materials_project/README.md) and a GPU.
Command: python -m densityjax.main --config=configs/paper_nonmagnetic.py --workdir=runs/nonmagnetic
--config.data.source=FOLDER (that tfds_builders.materials_project.download has filled)
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic_paper


def get_config() -> ConfigDict:
    """configs/elastic_paper.py with the paper's data, view and size."""
    config = elastic_paper.get_config()
    config.data.name = "materials_project/nonmagnetic_grid64"
    config.data.cache_in_memory = False
    config.input.lattice_features = "metric"
    config.view.kind = "fractional"
    config.model.widths = (32, 64, 128)
    config.model.blocks = (2, 2, 2)
    config.train.batch_size = 32
    config.train.epochs = 100
    config.train.num_threads = 8
    return config
