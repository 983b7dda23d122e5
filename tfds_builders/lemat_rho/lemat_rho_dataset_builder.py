"""Packs the densities of LeMat-Rho's parquet shards into sharded array_record files."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from pymatgen.core import Element

from densityjax.density.reader import Density, DensityFormatError, density_from_row
from densityjax.density.record import make_record
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, missing_label
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.left_out import LeftOut, report_left_out

FUNCTIONAL = "r2SCAN"
ID, DENSITY, SHAPE = "immutable_id", "charge_density", "charge_density_grid_shape"
STRUCTURE = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
# Target -> column of LeMaterial's schema that gives it; it is missing where a shard has no such.
LABELS = {
    "total_energy": "energy",
    "fermi_energy": "dos_ef",
    "magnetic_moment": "total_magnetization",
}
TARGET_NAMES = ("volume", "density", *LABELS)
TABLE = "lemat_rho_left_out.csv"
_ROWS = 4  # held at once
_GRAMS = 1.66053906660  # g/cm^3 of 1 u/Å^3


class Builder(DensityBuilder):
    """Builder of lemat_rho.

    Args:
        source: folder with parquet shards of LeMat-Rho, at any depth.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Densities of the column charge_density."}
    BUILDER_CONFIGS: ClassVar = [
        GridConfig(name=f"grid{size}", description=f"Densities on {size}^3 points.", grid=size)
        for size in (32, 64)
    ]
    OPTIONS = ("source",)
    ABOUT: ClassVar = {
        "homepage": "https://huggingface.co/datasets/LeMaterial/LeMat-Rho",
        "license": "CC BY 4.0",
    }
    specs = get_specs(TARGET_NAMES)

    def find_materials(self, download_config: Any) -> Materials:
        """Indices of the rows that have a density; those without are listed and counted.

        Raises:
            DatasetSourceError: no shard, or one that is damaged or lacks a column.
        """
        digest = hashlib.sha256()
        for shard in self._shards():
            with open(shard, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        places, self._left_out = self._find_rows()
        if not places:
            raise DatasetSourceError(f"{self._folder}: no row has a density ({DENSITY})")
        self._number = len(self._left_out) + len(places)
        folds: dict[int, list[int]] = {}
        for index, fold in places.items():
            folds.setdefault(fold, []).append(index)
        metadata = {
            "archive_sha256": digest.hexdigest(), "num_left_out": len(self._left_out),
        }
        return Materials(folds, self.builder_config.grid**3 * 4, metadata)

    def after_build(self) -> None:
        """Lists the rows without a density."""
        path = Path(self.data_path) / TABLE
        report_left_out(path, self._left_out, f"{self._number} rows were")

    @property
    def _folder(self) -> Path | None:
        source = self.options.get("source")
        return Path(source) if source else None

    def _shards(self) -> list[Path]:
        remedy = (
            "fetch the shards (hf download LeMaterial/LeMat-Rho --repo-type=dataset "
            "--local-dir=FOLDER, no key needed), then give --source=FOLDER, or "
            "--config.data.source=FOLDER to a run"
        )
        if self._folder is None:
            raise DatasetSourceError(f"lemat_rho is built from parquet shards: {remedy}")
        shards = sorted(self._folder.rglob("*.parquet"))
        if not shards:
            raise DatasetSourceError(f"{self._folder}: no *.parquet there; {remedy}")
        return shards

    def _read_rows(
        self, columns: tuple[str, ...], optional: tuple[str, ...]
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Index over all shards, place for messages, and columns as pyarrow scalars, row by row."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise DatasetSourceError(
                f"pyarrow is not installed ({error}); pip install 'densityjax[lemat_rho]'"
            ) from error
        index = 0
        for shard in self._shards():
            number = 0
            try:
                with pq.ParquetFile(shard) as file:
                    names = file.schema_arrow.names
                    if absent := [name for name in columns if name not in names]:
                        raise DatasetSourceError(
                            f"{shard}: no column {', '.join(absent)}; expected LeMat-Rho with its "
                            f"unsmoothed densities (a revision from June 2026 on)"
                        )
                    wanted = [*columns, *(name for name in optional if name in names)]
                    for batch in file.iter_batches(_ROWS, columns=wanted):
                        for place in range(batch.num_rows):
                            row = {name: batch[name][place] for name in wanted}
                            yield index, f"{shard}, row {number}", row
                            index, number = index + 1, number + 1
            except (pa.ArrowException, OSError) as error:
                raise DatasetSourceError(
                    f"{shard}: after row {number}: damaged or cut short ({error}); fetch it again"
                ) from error

    def _find_rows(self) -> tuple[dict[int, int], list[LeftOut]]:
        """Fold of each row that has a density, by index, and the rows that have none."""
        places: dict[int, int] = {}
        left_out: list[LeftOut] = []
        seen: set[str] = set()
        columns = (ID, "species_at_sites", SHAPE, DENSITY)
        for index, place, row in self._read_rows(columns, ("functional",)):
            material_id = str(row[ID].as_py() or "")
            functional = row["functional"].as_py() if "functional" in row else None
            symbols = row["species_at_sites"].as_py() or []
            reason = ""
            if not material_id:
                reason = f"no {ID}"
            elif material_id in seen:
                reason = f"another row has this {ID}"
            elif functional is not None and functional.casefold() != FUNCTIONAL.casefold():
                reason = f"functional {functional}, not {FUNCTIONAL}"
            elif not row[DENSITY].is_valid or not row[SHAPE].is_valid:
                reason = f"{DENSITY} is null"
            elif not symbols or not all(Element.is_valid_symbol(str(s)) for s in symbols):
                reason = "species_at_sites are not elements"
            if reason:
                left_out.append(LeftOut(material_id, "", "entry", f"{place}: {reason}"))
                continue
            seen.add(material_id)
            places[index] = fold_of("-".join(sorted(set(symbols))))
        return places, left_out

    def examples(self, fold: int, rows: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of the rows with these indices, in the order of the shards."""
        wanted = set(rows)
        columns = (ID, *STRUCTURE, SHAPE, DENSITY)
        for index, place, row in self._read_rows(columns, tuple(LABELS.values())):
            if index in wanted:
                yield str(row[ID].as_py()), self._make_example(index, place, row, fold)

    def _make_example(
        self, index: int, place: str, row: dict[str, Any], fold: int
    ) -> dict[str, Any]:
        values = {name: scalar.as_py() for name, scalar in row.items() if name != DENSITY}
        values[DENSITY] = row[DENSITY].values.to_numpy(zero_copy_only=False)  # [X * Y * Z]
        try:
            density = density_from_row(values, place)
            record = make_record(density, self.builder_config.grid)
        except DensityFormatError as error:
            raise DatasetSourceError(f"{error}; fetch the shard again") from error
        labels = {"volume": density.volume, "density": _mass_density(density)}
        labels |= {target: values.get(column) for target, column in LABELS.items()}
        if labels["magnetic_moment"] is not None:
            labels["magnetic_moment"] = abs(labels["magnetic_moment"])
        return record | {
            "code": "VASP",
            "functional": FUNCTIONAL,
            "material_id": str(values[ID]),
            "fold": fold,
            "index": index,
            "targets": {spec.name: _label(spec, labels[spec.name]) for spec in self.specs},
        }


def _mass_density(density: Density) -> float:
    """g/cm^3."""
    mass = sum(float(Element.from_Z(int(z)).atomic_mass) for z in density.species)  # u
    return mass / density.volume * _GRAMS


def _label(spec: TargetSpec, value: float | None) -> Any:
    return missing_label(spec) if value is None else np.float32(value)
