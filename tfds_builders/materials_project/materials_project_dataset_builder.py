"""Packs densities and labels of the Materials Project into sharded array_record files."""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from densityjax.density.reader import DensityFormatError, read_density
from densityjax.density.record import make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import (
    DatasetSourceError,
    GridConfig,
    exclusive,
    missing_label,
    num_shards,
    record_features,
)
from tfds_builders.left_out import LeftOut, report_left_out
from tfds_builders.materials_project.download import GONE, read_results
from tfds_builders.materials_project.manifest import (
    DATASETS,
    RUN_TYPES,
    Entry,
    Manifest,
    read_manifest,
)

TABLE = "materials_project_left_out.csv"


@dataclasses.dataclass(eq=False)
class MaterialsProjectConfig(GridConfig):
    """A builder config: one of the paper's datasets at a grid."""

    dataset: str = ""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of materials_project: `tfds_builders.load_builder` makes one.

    Args:
        archive: folder with manifest.jsonl and the densities that it names.
        **kwargs: `config` and `data_dir`, as of any TFDS builder.
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

    def __init__(self, *, archive: str | Path | None = None, **kwargs):
        self._folder = Path(archive) if archive else None
        super().__init__(file_format="array_record", **kwargs)
        self._original_state["archive"] = archive  # what TFDS pickles a builder as

    @property
    def _specs(self) -> tuple[TargetSpec, ...]:
        return get_specs(DATASETS[self.builder_config.dataset].targets)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(self.builder_config.grid, self._specs),
            homepage="https://materialsproject.org",
            license="CC BY 4.0",
            metadata=tfds.core.MetadataDict(),
        )

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the dataset unless it is there; entries without density are listed and counted.

        Args:
            **kwargs: of TFDS; a `download_config` with `beam_runner` or `beam_options` reads and
              writes with Apache Beam.

        Raises:
            DatasetSourceError: there is no manifest, or of another dataset; a density was not
                fetched yet, or is not the one that the manifest pins.
        """
        with exclusive(self) as needed:
            if not needed:
                return
            manifest = self._read_manifest()
            entries, left_out = self._find_densities(manifest)
            if not entries:
                raise DatasetSourceError(f"{self._folder}: none of its densities is there")
            listed = "".join(f"{row.material_id} {row.task_id}\n" for row in left_out)
            digest = hashlib.sha256(f"{manifest.sha256}\n{listed}".encode()).hexdigest()
            self.info.metadata["archive_sha256"] = digest
            self.info.metadata.update({k: v for k, v in manifest.header.items() if k != "rules"})
            self.info.metadata["num_left_out"] = len(left_out)
            kept = {entry.key for entry in entries}
            # Numbered by their place in the manifest.
            self._numbered = [n for n in enumerate(manifest.entries) if n[1].key in kept]
            config = kwargs.pop("download_config", None) or tfds.download.DownloadConfig()
            counts = collections.Counter(entry.fold for entry in entries)
            two_channels = self.builder_config.grid**3 * 8
            config.num_shards = num_shards(counts.values(), two_channels)
            self._beam = bool(config.beam_options or config.beam_runner)
            super().download_and_prepare(download_config=config, **kwargs)
            of = f"{len(manifest.entries)} entries have no density and were"
            report_left_out(Path(self.data_path) / TABLE, left_out, of)

    def _split_generators(self, dl_manager) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # what is downloaded has its own command, which can be restarted
        make = functools.partial(
            make_example, folder=self._folder, size=self.builder_config.grid, specs=self._specs
        )
        folds: dict[int, list[tuple[int, Entry]]] = {}
        for index, entry in self._numbered:
            folds.setdefault(entry.fold, []).append((index, entry))
        if not self._beam:
            return {f"fold{fold}": map(make, folds[fold]) for fold in sorted(folds)}
        import apache_beam as beam  # an extra

        return {
            f"fold{fold}": beam.Create(folds[fold], reshuffle=True) | beam.Map(make)
            for fold in sorted(folds)
        }

    def _generate_examples(self) -> Iterator[Any]:
        raise NotImplementedError("_split_generators returns the examples")

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
