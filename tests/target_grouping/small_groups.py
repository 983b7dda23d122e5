"""Small real datasets and configs for tests of groups."""

import csv
import tarfile
from pathlib import Path

import tfds_builders
from densityjax.configs import elastic
from densityjax.target_grouping.settings import Settings
from tests.tfds_builders.test_elastic_densities import SHIPPED, pack

NAME = "elastic_densities/grid24"
LABELS = ("bulk_modulus", "band_gap", "fermi_energy", "formation_energy_per_atom", "is_metal")


def settings(**changes) -> Settings:
    grouping = elastic.get_config().grouping.to_dict() | {"similarity": "spearman"}
    small = {"permutations": 99, "bootstraps": 5}
    return Settings.from_config(grouping | small | changes)


def config_of(data_dir, targets, **changes):
    config = elastic.get_config()
    config.data.name, config.data.data_dir = NAME, str(data_dir)
    config.data.build = False
    config.targets = tuple(targets)
    config.grouping.update(permutations=99, bootstraps=5, similarities=("pearson",))
    config.grouping.similarity = "spearman"
    config.grouping.update(changes)
    return config


def build(folder: Path, change=None) -> Path:
    """Data directory with 10 small real materials a fold, their rows changed by `change`."""
    with tarfile.open(SHIPPED) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    table = csv.DictReader(files["labels.csv"].decode().splitlines())
    by_size = sorted(table, key=lambda row: len(files[row["file"]]))
    rows = []
    for fold in map(str, range(5)):
        for metal in "01":
            rows += [r for r in by_size if (r["fold"], r["is_metal"]) == (fold, metal)][:5]
    if change:
        change(rows)
    sample = pack(folder / "sample.tar", rows, files)
    tfds_builders.load_builder(NAME, folder, sample).download_and_prepare()
    return folder
