"""Packs the densities and labels of elastic_densities into sharded array_record files."""

import collections
import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax import density_io, grid, targets

SHARDS_PER_FOLD = 4
TARGET_NAMES = (
    "bulk_modulus", "shear_modulus", "youngs_modulus", "poisson_ratio", "debye_temperature",
    "volume", "density", "total_energy", "mp_energy_per_atom", "formation_energy_per_atom",
    "fermi_energy", "band_gap", "bandwidth", "magnetic_moment", "is_metal", "crystal_system",
)  # fmt: skip
FILE_TOLERANCE = 2e-5  # electrons in a file against labels.csv, relative
RECORD_TOLERANCE = 1e-4  # electrons in a record against its file, relative


class DatasetSourceError(ValueError):
    """The data to build from are missing or damaged; the message names the file and the remedy."""


@dataclasses.dataclass(eq=False)
class GridConfig(tfds.core.BuilderConfig):
    """A builder config: the records hold densities on a cube of `grid` points per axis."""

    grid: int = 0


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of elastic_densities: `tfds_builders.load_builder` makes one.

    Args:
        archive: build from this archive (same layout) instead of the one beside this file.
        **kwargs: `config` and `data_dir`, as of any TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")
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
        size = self.builder_config.grid
        tensor = tfds.features.Tensor
        text = tfds.features.Text
        features = {
            # [G, G, G, C] charge in e/Å^3 and, computed with spin, magnetization in μB/Å^3; as a
            # list of floats instead of bytes it takes TFDS several times as long to write
            "density": tensor(shape=(size, size, size, None), dtype=np.float32, encoding="bytes"),
            "lattice": tensor(shape=(3, 3), dtype=np.float32),  # Å, rows
            "species": tensor(shape=(None,), dtype=np.int32),  # atomic numbers
            "positions": tensor(shape=(None, 3), dtype=np.float32),  # fractional
            "num_electrons": np.float32,  # integral over the source file
            "native_grid": tensor(shape=(3,), dtype=np.int32),  # of that file
            "negative_fraction": np.float32,  # of the charge as stored
            "code": text(),
            "functional": text(),
            "material_id": text(),
            "formula": text(),
            "chemical_system": text(),
            "fold": np.int32,
            "index": np.int64,  # row of labels.csv
            "targets": {
                name: np.int32 if targets.TARGETS[name].classes else np.float32
                for name in TARGET_NAMES
            },
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
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
        if self.is_prepared():
            return  # perhaps from a place that we cannot write to
        self.data_path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.data_path.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system if we are killed
            if self.is_prepared():
                self.info.read_from_directory(self.data_dir)  # another process may have built it
                return
            for stale in self.data_path.parent.glob(f"incomplete.*_{self.version}"):
                shutil.rmtree(stale)
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
        density = density_io.read_density_bytes(data, source)
        _check_electrons(source, density.num_electrons, int(row["num_electrons"]), FILE_TOLERANCE)

        fields = [density.values]
        if density.magnetization is not None:
            fields.append(density.magnetization)
        size = self.builder_config.grid
        stored = np.stack([grid.resample(field, size) for field in fields], axis=-1)
        stored = stored.astype(np.float32)  # [G, G, G, C] e/Å^3, μB/Å^3
        lattice = density.lattice.astype(np.float32)  # [3, 3] Å
        charge = stored[..., 0]  # [G, G, G] e/Å^3
        integral = charge.mean(dtype=np.float64) * abs(np.linalg.det(lattice.astype(np.float64)))
        _check_electrons(source, integral, density.num_electrons, RECORD_TOLERANCE)
        return {
            "density": stored,
            "lattice": lattice,
            "species": density.species.astype(np.int32),
            "positions": density.positions.astype(np.float32),
            "num_electrons": np.float32(density.num_electrons),
            "native_grid": np.array(density.values.shape, np.int32),
            "negative_fraction": np.float32(grid.negative_fraction(charge)),
            "code": "GPAW 22.8",
            "functional": "PBE",
            "material_id": row["material_id"],
            "formula": row["formula"],
            "chemical_system": row["chemical_system"],
            "fold": int(row["fold"]),
            "index": index,
            "targets": {name: _parse_label(name, row[name]) for name in TARGET_NAMES},
        }


def _check_electrons(source: str, found: float, expected: float, tolerance: float) -> None:
    if abs(found / expected - 1) > tolerance:
        raise DatasetSourceError(
            f"{source}: holds {found:.6f} electrons; expected {expected:.6f} within {tolerance:g} "
            "relative"
        )


def _parse_label(name: str, text: str) -> np.float32 | np.int32:
    """Label of a record: NaN (regression) or -1 (class) where labels.csv has none."""
    classes = targets.TARGETS[name].classes
    if not classes:
        return np.float32(text or "nan")
    if text in classes:
        return np.int32(classes.index(text))
    return np.int32(text or -1)
