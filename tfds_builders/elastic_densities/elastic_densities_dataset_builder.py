"""Packs the densities and labels of elastic_densities into sharded array_record files."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.density.reader import DensityFormatError, read_density_bytes
from densityjax.density.record import check_electrons, make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, missing_label
from tfds_builders.elastic_densities.archives import Archives
from tfds_builders.errors import DatasetSourceError

# Targets of version 1.0.0; every table of labels has their columns.
FIRST_TARGET_NAMES = (
    "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio", "debye_temperature",
    "volume", "density", "total_energy", "mp_energy_per_atom", "formation_energy_per_atom",
    "fermi_energy", "band_gap", "bandwidth", "magnetic_moment", "is_metal", "crystal_system",
)
TARGET_NAMES = (
    *FIRST_TARGET_NAMES, "elastic_anisotropy", "c11", "c12", "c44", "refractive_index",
    "dielectric_constant",
)
COLUMNS = (  # of labels.csv, beside those of the targets
    "material_id", "formula", "chemical_system", "fold", "num_electrons", "file", "sha256",
)
FILE_TOLERANCE = 2e-5  # electrons in a file against labels.csv, relative


class Builder(DensityBuilder):
    """Builder of elastic_densities, from the archives that ship with it.

    Args:
        archive: build from this archive alone instead: labels.csv, which may lack the columns that
            2.0.0 added, and the density files that it names.
    """

    VERSION = tfds.core.Version("2.0.0")
    OLDER_VERSIONS = ("1.0.0",)
    RELEASE_NOTES: ClassVar = {
        "2.0.0": "311 more materials, six more targets; those of 1.0.0 are as they were.",
        "1.0.0": "840 materials, 16 targets, five folds.",
    }
    BUILDER_CONFIGS: ClassVar = [
        GridConfig(name=f"grid{size}", description=f"Densities on {size}^3 points.", grid=size)
        for size in (32, 24, 48)  # the first is TFDS's default
    ]
    OPTIONS = ("archive",)
    ABOUT: ClassVar = {"homepage": "https://materialsproject.org", "license": "CC BY 4.0"}

    @property
    def specs(self) -> tuple[TargetSpec, ...]:
        """Targets of this version."""
        return get_specs(FIRST_TARGET_NAMES if self._is_first else TARGET_NAMES)

    @property
    def archives(self) -> Archives:
        """The archives that the dataset is built from."""
        if given := self.options.get("archive"):
            return Archives((Path(given),), None)
        versions = ("1.0.0",) if self._is_first else ("1.0.0", "2.0.0")
        return Archives(
            tuple(Path(__file__).parent / f"{self.name}-{version}.tar" for version in versions),
            {name: info.checksum for name, info in self.url_infos.items()},
        )

    @property
    def _is_first(self) -> bool:
        return self.version == "1.0.0"

    def find_materials(self, download_config: Any) -> Materials:
        """Rows of labels.csv, each with its number.

        Raises:
            DatasetSourceError: an archive, or a file in it, is missing or damaged.
        """
        archives = self.archives
        digest = archives.digest()
        folds: dict[int, list[tuple[int, dict[str, str]]]] = {}
        for index, row in enumerate(archives.labels((*COLUMNS, *FIRST_TARGET_NAMES))):
            if not (row["fold"] or "").isdecimal():
                path = archives.paths[-1]
                raise DatasetSourceError(
                    f"labels.csv in {path}, row {index + 2}: fold is {row['fold']!r}, "
                    f"expected a whole number from 0; {archives.remedy(path)}"
                )
            folds.setdefault(int(row["fold"]), []).append((index, row))
        two_channels = self.builder_config.grid**3 * 8
        return Materials(folds, two_channels, {"archive_sha256": digest})

    def examples(
        self, fold: int, rows: Sequence[tuple[int, dict[str, str]]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of each row, the archives being opened once."""
        archives = self.archives
        with archives.open() as read:
            for index, row in rows:
                data, path = read(row["file"])
                try:
                    record = self._make_example(index, row, data, f"{row['file']} in {path}")
                except DensityFormatError as error:
                    raise DatasetSourceError(f"{error}; {archives.remedy(path)}") from error
                yield row["material_id"], record

    def _make_example(
        self, index: int, row: dict[str, str], data: bytes, source: str
    ) -> dict[str, Any]:
        """Makes the record of one row of labels.csv from its compressed density file.

        Raises:
            DensityFormatError: the file is damaged.
        """
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise DensityFormatError(
                f"{source} is damaged: its sha256 is not the one in labels.csv"
            )
        density = read_density_bytes(data, source)
        expected = int(row["num_electrons"])
        check_electrons(source, density.num_electrons, expected, FILE_TOLERANCE)
        record = make_record(density, self.builder_config.grid)
        return record | {
            "code": "GPAW 22.8",
            "functional": "PBE",
            "material_id": row["material_id"],
            "formula": row["formula"],
            "chemical_system": row["chemical_system"],
            "fold": int(row["fold"]),
            "index": index,
            "targets": {
                spec.name: _parse_label(spec, row.get(spec.name, "")) for spec in self.specs
            },
        }


def _parse_label(spec: TargetSpec, text: str) -> np.float32 | np.int32:
    """Label of a record, from labels.csv."""
    if not text:
        return missing_label(spec)
    if not spec.classes:
        return np.float32(text)
    return np.int32(spec.classes.index(text) if text in spec.classes else text)
