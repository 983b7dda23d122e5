"""Packs the densities and labels of elastic_densities into sharded array_record files."""

import contextlib
import csv
import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.density.reader import DensityFormatError, read_density_bytes
from densityjax.density.record import check_electrons, make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, missing_label
from tfds_builders.errors import DatasetSourceError

TARGET_NAMES = (
    "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio", "debye_temperature",
    "elastic_anisotropy", "c11", "c12", "c44", "refractive_index", "dielectric_constant",
    "volume", "density", "total_energy", "mp_energy_per_atom", "formation_energy_per_atom",
    "fermi_energy", "band_gap", "bandwidth", "magnetic_moment", "is_metal", "crystal_system",
)
FILE_TOLERANCE = 2e-5  # electrons in a file against labels.csv, relative


class Builder(DensityBuilder):
    """Builder of elastic_densities, from the archives that ship with it.

    The labels are in the last of them, a density is in any.

    Args:
        archive: build from this archive (same layout) instead; columns that it lacks are missing
          labels.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar = {
        "2.0.0": "1,151 materials (311 more) and six more properties; the 840 keep their folds.",
        "1.0.0": "840 materials, five folds.",
    }
    BUILDER_CONFIGS: ClassVar = [
        GridConfig(name=f"grid{size}", description=f"Densities on {size}^3 points.", grid=size)
        for size in (32, 24, 48)  # the first is TFDS's default
    ]
    OPTIONS = ("archive",)
    ABOUT: ClassVar = {"homepage": "https://materialsproject.org", "license": "CC BY 4.0"}
    specs = get_specs(TARGET_NAMES)

    def find_materials(self, download_config: Any) -> Materials:
        """Rows of labels.csv, each with its number.

        Raises:
            DatasetSourceError: an archive, or a file in it, is missing or damaged.
        """
        digests = [self._check_archive(archive) for archive in self.archives]
        folds: dict[int, list[tuple[int, dict[str, str]]]] = {}
        for index, row in enumerate(self._read_labels()):
            if not (row.get("fold") or "").isdecimal():
                raise DatasetSourceError(
                    f"labels.csv in {self.archives[-1]}, row {index + 2}: fold is "
                    f"{row.get('fold')!r}, expected a whole number from 0; "
                    + self._remedy(self.archives[-1])
                )
            folds.setdefault(int(row["fold"]), []).append((index, row))
        two_channels = self.builder_config.grid**3 * 8
        digest = digests[0]
        if len(digests) > 1:
            digest = hashlib.sha256(" ".join(digests).encode()).hexdigest()
        return Materials(folds, two_channels, {"archive_sha256": digest})

    @property
    def archives(self) -> tuple[Path, ...]:
        """The archives that the dataset is built from, in the order of their versions."""
        given = self.options.get("archive")
        if given:
            return (Path(given),)
        folder = Path(__file__).parent
        return tuple(folder / f"{self.name}-{version}.tar" for version in ("1.0.0", "2.0.0"))

    def _remedy(self, archive: Path) -> str:
        if self.options.get("archive"):
            return f"replace {archive}"
        return f"restore it with: git checkout -- {archive}"

    def _check_archive(self, archive: Path) -> str:
        """Returns an archive's sha256; one that ships must be what checksums.tsv says."""
        try:
            with open(archive, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetSourceError(
                f"{archive}: {error.strerror}; {self._remedy(archive)}"
            ) from error
        if not self.options.get("archive") and digest != self.url_infos[archive.name].checksum:
            raise DatasetSourceError(
                f"{archive} is damaged: its sha256 {digest} is not the one in checksums.tsv; "
                + self._remedy(archive)
            )
        return digest

    @contextlib.contextmanager
    def _open_archive(self, path: Path) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(path) as archive:
                yield archive
        except (tarfile.TarError, KeyError) as error:  # KeyError: no such member or column
            raise DatasetSourceError(
                f"{path} is damaged or incomplete: {error.args[0]}; {self._remedy(path)}"
            ) from error

    def _read_labels(self) -> list[dict[str, str]]:
        with self._open_archive(self.archives[-1]) as archive:
            member = archive.extractfile("labels.csv")
            if member is None:
                raise KeyError("labels.csv is not a file")
            text = member.read().decode()
        return list(csv.DictReader(text.splitlines()))

    def examples(
        self, fold: int, rows: Sequence[tuple[int, dict[str, str]]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of each row, each archive being opened once."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(self._open_archive(path)) for path in self.archives]
            places = {
                name: place for place, archive in enumerate(opened) for name in archive.getnames()
            }
            for index, row in rows:
                place = places.get(row["file"], len(opened) - 1)  # which says what it lacks
                data = opened[place].extractfile(row["file"]).read()
                example = self._make_example(index, row, data, self.archives[place])
                yield row["material_id"], example

    def _make_example(
        self, index: int, row: dict[str, str], data: bytes, archive: Path
    ) -> dict[str, Any]:
        """Makes the record of one row of labels.csv from its compressed density file."""
        source, remedy = f"{row['file']} in {archive}", self._remedy(archive)
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise DatasetSourceError(
                f"{source} is damaged: its sha256 is not the one in labels.csv; {remedy}"
            )
        try:
            density = read_density_bytes(data, source)
            expected = int(row["num_electrons"])
            check_electrons(source, density.num_electrons, expected, FILE_TOLERANCE)
            record = make_record(density, self.builder_config.grid)
        except DensityFormatError as error:
            raise DatasetSourceError(f"{error}; {remedy}") from error
        return record | {
            "code": "GPAW 22.8",
            "functional": "PBE",
            "material_id": row["material_id"],
            "formula": row["formula"],
            "chemical_system": row["chemical_system"],
            "fold": int(row["fold"]),
            "index": index,
            "targets": {s.name: _parse_label(s, row.get(s.name) or "") for s in self.specs},
        }


def _parse_label(spec: TargetSpec, text: str) -> np.float32 | np.int32:
    """Label of a record, from labels.csv."""
    if not text:
        return missing_label(spec)
    if not spec.classes:
        return np.float32(text)
    return np.int32(spec.classes.index(text) if text in spec.classes else text)
