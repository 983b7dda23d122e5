"""Your own densities: a folder of density files and a table, labels.csv, with a column per target.

Reproduces: nothing; the model and the training of configs/elastic.py on any data. What the folder
must hold, and how its targets are read: tfds_builders/density_folder/README.md.
Cost: 10 epochs on 200 real densities took 2 min 25 s on two busy CPU cores.
Command: python -m densityjax.main --config=configs/folder.py --config.data.source=/my/folder \\
    --workdir=runs/mine
"""

from ml_collections import ConfigDict

from densityjax.configs import elastic


def get_config() -> ConfigDict:
    """configs/elastic.py on the folder that --config.data.source names."""
    config = elastic.get_config()
    config.targets = ()  # all columns of labels.csv
    config.data.name = "density_folder/grid32"
    return config
