"""Packs the densities and labels of elastic_densities into sharded array_record files."""

import collections
import contextlib
import csv
import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.density import reader as density_io
from densityjax.density.record import check_electrons, make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import (
    DatasetSourceError,
    GridConfig,
    exclusive,
    missing_label,
    record_features,
)

SHARDS_PER_FOLD = 4
TARGET_NAMES = (
    "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio", "debye_temperature",
    "volume", "density", "total_energy", "mp_energy_per_atom", "formation_energy_per_atom",
    "fermi_energy", "band_gap", "bandwidth", "magnetic_moment", "is_metal", "crystal_system",
)
FILE_TOLERANCE = 2e-5  # electrons in a file against labels.csv, relative
_SPECS = get_specs(TARGET_NAMES)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of elastic_densities: `tfds_builders.load_builder` makes one.

    Args:
        archive: build from this archive (same layout) instead of the one beside this file.
        **kwargs: `config` and `data_dir`, as of any TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")
    TAKES_BEAM = False
    RELEASE_NOTES: ClassVar = {"1.0.0": "840 materials, five folds."}
    BUILDER_CONFIGS: ClassVar = [
        GridConfig(name=f"grid{size}", description=f"Densities on {size}^3 points.", grid=size)
        for size in (32, 24, 48)  # the first is TFDS's default
    ]

    def __init__(self, *, archive: str | Path | None = None, **kwargs):
        self._archive = Path(archive) if archive else None
        super().__init__(file_format="array_record", **kwargs)
        self._original_state["archive"] = archive  # what TFDS pickles a builder as

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(self.builder_config.grid, _SPECS),
            homepage="https://materialsproject.org",
            license="CC BY 4.0",
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the dataset unless it is there, with several shards per fold.

        A build that was killed leaves no dataset, only a directory that this removes; two builds at
        the same place wait for each other.

        Raises:
            DatasetSourceError: the archive, or a file in it, is missing or damaged.
        """
        with exclusive(self) as needed:
            if not needed:
                return
            self.info.metadata["archive_sha256"] = self._check_archive()
            smallest = min(collections.Counter(row["fold"] for row in self._read_labels()).values())
            config = tfds.download.DownloadConfig(num_shards=min(SHARDS_PER_FOLD, smallest))
            super().download_and_prepare(**{"download_config": config, **kwargs})

    def _split_generators(self, dl_manager) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        folds = sorted({int(row["fold"]) for row in self._read_labels()})
        return {f"fold{fold}": self._generate_examples(fold) for fold in folds}

    @property
    def archive(self) -> Path:
        """The archive that the dataset is built from."""
        return self._archive or Path(__file__).parent / f"{self.name}-{self.version}.tar"

    @property
    def _remedy(self) -> str:
        if self._archive:
            return f"replace {self.archive}"
        return f"restore it with: git checkout -- {self.archive}"

    def _check_archive(self) -> str:
        """Returns the archive's sha256; the one that ships must be what checksums.tsv says."""
        try:
            with open(self.archive, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetSourceError(f"{self.archive}: {error.strerror}; {self._remedy}") from error
        if not self._archive and digest != self.url_infos[self.archive.name].checksum:
            raise DatasetSourceError(
                f"{self.archive} is damaged: its sha256 {digest} is not the one in checksums.tsv; "
                f"{self._remedy}"
            )
        return digest

    @contextlib.contextmanager
    def _open_archive(self) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(self.archive) as archive:
                yield archive
        except (tarfile.TarError, KeyError) as error:  # KeyError: no such member or column
            raise DatasetSourceError(
                f"{self.archive} is damaged or incomplete: {error.args[0]}; {self._remedy}"
            ) from error

    def _read_labels(self) -> list[dict[str, str]]:
        with self._open_archive() as archive:
            text = archive.extractfile("labels.csv").read().decode()
        return list(csv.DictReader(text.splitlines()))

    def _generate_examples(self, fold: int) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = [row for row in enumerate(self._read_labels()) if int(row[1]["fold"]) == fold]
        with self._open_archive() as archive:
            for index, row in rows:
                data = archive.extractfile(row["file"]).read()
                yield row["material_id"], self._make_example(index, row, data)

    def _make_example(self, index: int, row: dict[str, str], data: bytes) -> dict[str, Any]:
        """Makes the record of one row of labels.csv from its compressed density file."""
        source = f"{row['file']} in {self.archive}"
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise DatasetSourceError(
                f"{source} is damaged: its sha256 is not the one in labels.csv; {self._remedy}"
            )
        try:
            density = density_io.read_density_bytes(data, source)
            expected = int(row["num_electrons"])
            check_electrons(source, density.num_electrons, expected, FILE_TOLERANCE)
            record = make_record(density, self.builder_config.grid)
        except density_io.DensityFormatError as error:
            raise DatasetSourceError(f"{error}; {self._remedy}") from error
        return record | {
            "code": "GPAW 22.8",
            "functional": "PBE",
            "material_id": row["material_id"],
            "formula": row["formula"],
            "chemical_system": row["chemical_system"],
            "fold": int(row["fold"]),
            "index": index,
            "targets": {spec.name: _parse_label(spec, row[spec.name]) for spec in _SPECS},
        }


def _parse_label(spec: TargetSpec, text: str) -> np.float32 | np.int32:
    """Label of a record, from labels.csv."""
    if not text:
        return missing_label(spec)
    if not spec.classes:
        return np.float32(text)
    return np.int32(spec.classes.index(text) if text in spec.classes else text)
