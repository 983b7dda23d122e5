"""Packs densities and labels of the Materials Project into sharded array_record files."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.density.reader import DensityFormatError, read_density
from densityjax.density.record import make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, missing_label
from tfds_builders.errors import DatasetSourceError
from tfds_builders.left_out import LeftOut, report_left_out
from tfds_builders.materials_project.download import GONE, read_results
from tfds_builders.materials_project.entries import (
    DATASETS,
    RUN_TYPES,
    Entry,
    Manifest,
    read_manifest,
)

TABLE = "materials_project_left_out.csv"


@dataclasses.dataclass(eq=False)
class MaterialsProjectConfig(GridConfig):
    """A builder config: one of the paper's datasets, or all densities, at a grid."""

    dataset: str = ""


class Builder(DensityBuilder):
    """Builder of materials_project.

    Args:
        source: folder with manifest.jsonl and the densities that it names.
    """

    VERSION = tfds.core.Version("1.0.0")
    TAKES_BEAM = True
    RELEASE_NOTES: ClassVar = {"1.0.0": "The paper's three datasets from a pinned manifest."}
    BUILDER_CONFIGS: ClassVar = [
        MaterialsProjectConfig(
            name=f"{name}_grid{size}", description=f"{name} entries, densities on {size}^3 points.",
            grid=size, dataset=name,
        )
        for size in (64, 32)
        for name in DATASETS
    ]
    OPTIONS = ("source",)
    ABOUT: ClassVar = {"homepage": "https://materialsproject.org", "license": "CC BY 4.0"}

    @property
    def specs(self) -> tuple[TargetSpec, ...]:
        """Targets of the config's dataset."""
        return get_specs(DATASETS[self.builder_config.dataset].targets)

    def find_materials(self, download_config: Any) -> Materials:
        """Entries numbered by their place in the manifest; those without density are listed.

        Raises:
            DatasetSourceError: there is no manifest, or of another dataset; a density was not
                fetched yet, or is not the one that the manifest pins.
        """
        manifest = self._read_manifest()
        entries, self._left_out = self._find_densities(manifest)
        if not entries:
            raise DatasetSourceError(f"{self._folder}: none of its densities is there")
        listed = "".join(f"{row.material_id} {row.task_id}\n" for row in self._left_out)
        digest = hashlib.sha256(f"{manifest.sha256}\n{listed}".encode()).hexdigest()
        kept = {entry.key for entry in entries}
        folds: dict[int, list[tuple[int, Entry]]] = {}
        for index, entry in enumerate(manifest.entries):
            if entry.key in kept:
                folds.setdefault(entry.fold, []).append((index, entry))
        self._number = len(manifest.entries)
        metadata = {"archive_sha256": digest}
        metadata |= {key: value for key, value in manifest.header.items() if key != "rules"}
        metadata["num_left_out"] = len(self._left_out)
        two_channels = self.builder_config.grid**3 * 8
        return Materials(folds, two_channels, metadata)

    def after_build(self) -> None:
        """Lists the entries without a density."""
        of = f"{self._number} entries have no density and were"
        report_left_out(Path(self.data_path) / TABLE, self._left_out, of)

    def record_maker(self, fold: int) -> Any:
        """(index, entry) -> (key, record), without the builder, so that Beam can pickle it."""
        return functools.partial(
            make_example, folder=self._folder, size=self.builder_config.grid, specs=self.specs
        )

    @property
    def _folder(self) -> Path | None:
        source = self.options.get("source")
        return Path(source) if source else None

    def _read_manifest(self) -> Manifest:
        dataset = self.builder_config.dataset
        if self._folder is None:
            raise DatasetSourceError(
                f"{self.name}/{self.builder_config.name} is built from a folder that you fill: "
                f"python -m tfds_builders.{self.name}.manifest {dataset} --out=FOLDER, "
                f"python -m tfds_builders.{self.name}.download FOLDER, then give --source=FOLDER, "
                "or --config.data.source=FOLDER to a run"
            )
        manifest = read_manifest(self._folder)
        if manifest.header["dataset"] != dataset:
            raise DatasetSourceError(
                f"{self._folder} holds the manifest of '{manifest.header['dataset']}'; expected "
                f"'{dataset}': name its folder, or build {manifest.header['dataset']}_grid"
                f"{self.builder_config.grid}"
            )
        return manifest

    def _find_densities(self, manifest: Manifest) -> tuple[list[Entry], list[LeftOut]]:
        """Entries whose density is in the folder, and those that have none for good."""
        status = read_results(self._folder)
        here, left_out, pending = [], [], []
        for entry in manifest.entries:
            if (self._folder / entry.key).exists():
                here.append(entry)
            elif status.get(entry.key) in GONE:
                reason = f"its density is {status[entry.key]}"
                left_out.append(LeftOut(entry.material_id, entry.task_id, "entry", reason))
            else:
                pending.append(entry)
        if pending:
            raise DatasetSourceError(
                f"{self._folder}: {len(pending)} of {len(manifest.entries)} densities were not "
                f"fetched yet, {pending[0].key} the first; "
                f"run: python -m tfds_builders.{self.name}.download {self._folder}"
            )
        return here, left_out


def make_example(
    numbered: tuple[int, Entry], *, folder: Path, size: int, specs: Sequence[TargetSpec]
) -> tuple[str, dict[str, Any]]:
    """Key and record of an entry, numbered by its place in the manifest.

    Args:
        size: voxels along each axis of the stored density.

    Raises:
        DatasetSourceError: its density is damaged, or not that of its task.
    """
    index, entry = numbered
    try:
        density = read_density(folder / entry.key)
        entry.check(density)
        record = make_record(density, size)
    except DensityFormatError as error:
        raise DatasetSourceError(
            f"{error}; remove the file and run: python -m tfds_builders.materials_project.download "
            f"{folder}"
        ) from error
    return entry.material_id, record | {
        "code": "VASP",
        "functional": RUN_TYPES[entry.run_type],
        "material_id": entry.material_id,
        "fold": entry.fold,
        "index": index,
        "targets": {spec.name: _label(spec, entry.labels) for spec in specs},
    }


def _label(spec: TargetSpec, labels: dict[str, float]) -> Any:
    if spec.name not in labels:
        return missing_label(spec)
    return np.int32(labels[spec.name]) if spec.classes else np.float32(labels[spec.name])
