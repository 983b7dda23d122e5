"""Packs the densities of LeMat-Rho's parquet shards into sharded array_record files."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from pymatgen.core import Element

from densityjax.density.reader import Density, DensityFormatError
from densityjax.density.record import make_record
from densityjax.density.valence import is_whole
from densityjax.targets import TargetSpec, get_specs
from tfds_builders.density_builder import DensityBuilder, GridConfig, Materials, missing_label
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import fold_of
from tfds_builders.left_out import LeftOut, report_left_out
from tfds_builders.lemat_rho.rules import (
    COARSE_SPACING,
    DENSITY,
    ID,
    SHAPE,
    STRUCTURE,
    UnusableRowError,
    check_density,
    check_names,
    read_row,
    spacing,
)
from tfds_builders.lemat_rho.shards import digest_of, find_shards, read_rows

ENERGY = "energy"  # eV per cell, of the static calculation
TARGET_NAMES = ("volume", "density", "total_energy")
TABLE = "lemat_rho_left_out.csv"
_GRAMS = 1.66053906660  # g/cm^3 of 1 u/Å^3


@dataclasses.dataclass(eq=False)
class LeMatRhoConfig(GridConfig):
    """A builder config: rows of one functional at a grid."""

    functional: str = ""


class Builder(DensityBuilder):
    """Builder of lemat_rho.

    Args:
        source: folder with the parquet shards of one config of LeMat-Rho.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar = {
        "2.0.0": "No labels of dos_ef and total_magnetization; rules on grids and electrons.",
        "1.0.0": "Densities of the column charge_density.",
    }
    # The dataset's pipeline writes 'pbe' for its r2SCAN calculations, at least in its older code.
    BUILDER_CONFIGS: ClassVar = [
        LeMatRhoConfig(
            name=f"grid{size}{suffix}", grid=size, functional=functional,
            description=f"Rows that say {functional}, densities on {size}^3 points.",
        )
        for functional, suffix in (("r2SCAN", ""), ("PBE", "_pbe"))
        for size in (32, 64)
    ]
    OPTIONS = ("source",)
    ABOUT: ClassVar = {
        "homepage": "https://huggingface.co/datasets/LeMaterial/LeMat-Rho",
        "license": "CC BY 4.0",
    }
    specs = get_specs(TARGET_NAMES)

    def find_materials(self, download_config: Any) -> Materials:
        """Indices of the rows that can be used; the others are listed and counted.

        Raises:
            DatasetSourceError: no shard, or one that is damaged or lacks a column; no row that can
                be used.
        """
        source = self.options.get("source")
        self._shards = find_shards(Path(source) if source else None)
        found = self._find_rows()
        self._found = found
        if not found.folds:
            reasons = "; ".join(f"{n} rows: {kind}" for kind, n in found.reasons.most_common())
            raise DatasetSourceError(
                f"{source}: no row can be used ({reasons or 'there are none'}){self._remedy()}"
            )
        folds: dict[int, list[int]] = {}
        for index, fold in found.folds.items():
            folds.setdefault(fold, []).append(index)
        metadata = {
            "archive_sha256": digest_of(self._shards), "num_left_out": len(found.left_out),
            "shards": self._shards[0].parent.name, "num_coarse": found.num_coarse,
            "num_electrons_not_whole": found.num_not_whole,
        }
        return Materials(folds, self.builder_config.grid**3 * 4, metadata)

    def after_build(self) -> None:
        """Lists the rows that were not used, and says what is doubtful about the others."""
        found = self._found
        taken = len(found.folds)
        path = Path(self.data_path) / TABLE
        report_left_out(path, found.left_out, f"{taken + len(found.left_out)} rows were")
        for kind, number in found.reasons.most_common():
            print(f"  {number} rows: {kind}", file=sys.stderr)
        if found.num_coarse:
            print(
                f"warning: {found.num_coarse} of {taken} densities have points over "
                f"{COARSE_SPACING} Å apart: the stored grid adds no detail to them",
                file=sys.stderr,
            )
        if found.num_not_whole:
            print(
                f"warning: the electrons of {found.num_not_whole} of {taken} densities are no "
                "whole number: they were changed after VASP wrote them", file=sys.stderr,
            )

    def _remedy(self) -> str:
        """What to do where rows of another functional are all that there is."""
        wanted = self.builder_config.functional
        other = next(
            config for config in self.BUILDER_CONFIGS
            if config.grid == self.builder_config.grid and config.functional != wanted
        )
        kind = f"functional {other.functional}, not {wanted}"
        if kind.casefold() not in (reason.casefold() for reason in self._found.reasons):
            return ""
        return f"; for those that say {other.functional}, build lemat_rho/{other.name}"

    def _find_rows(self) -> "_Rows":
        found = _Rows()
        seen: set[str] = set()
        columns = (ID, *STRUCTURE, SHAPE, DENSITY)
        for index, place, row in read_rows(self._shards, columns, ("functional",)):
            try:
                material_id = check_names(row, self.builder_config.functional, seen)
                density = read_row(row, place)
                check_density(density)
            except UnusableRowError as error:
                found.reasons[error.kind] += 1
                name = str(row[ID].as_py() or "")
                found.left_out.append(LeftOut(name, "", "entry", f"{place}: {error}"))
                continue
            seen.add(material_id)
            found.folds[index] = fold_of(density.chemical_system)
            found.num_coarse += spacing(density) > COARSE_SPACING
            found.num_not_whole += not is_whole(density.num_electrons)
        return found

    def examples(self, fold: int, rows: Sequence[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of the rows with these indices, in the order of the shards."""
        wanted = set(rows)
        columns = (ID, *STRUCTURE, SHAPE, DENSITY)
        for index, place, row in read_rows(self._shards, columns, (ENERGY,)):
            if index in wanted:
                yield str(row[ID].as_py()), self._make_example(index, place, row, fold)

    def _make_example(
        self, index: int, place: str, row: dict[str, Any], fold: int
    ) -> dict[str, Any]:
        try:
            density = read_row(row, place)
            record = make_record(density, self.builder_config.grid)
        except (UnusableRowError, DensityFormatError) as error:
            raise DatasetSourceError(
                f"{place}: {error}; the shard has changed during the build: run it again"
            ) from error
        energy = row[ENERGY].as_py() if ENERGY in row else None  # eV per cell
        labels = {
            "volume": density.volume, "density": _mass_density(density), "total_energy": energy,
        }
        return record | {
            "code": "VASP",
            "functional": self.builder_config.functional,
            "material_id": str(row[ID].as_py()),
            "fold": fold,
            "index": index,
            "targets": {spec.name: _label(spec, labels[spec.name]) for spec in self.specs},
        }


@dataclasses.dataclass
class _Rows:
    """What the first reading of all shards finds.

    Attributes:
        folds: {index of a row that is used: its fold}.
        left_out: the others.
        reasons: how many rows are left out for each.
        num_coarse, num_not_whole: used, and worth a warning.
    """

    folds: dict[int, int] = dataclasses.field(default_factory=dict)
    left_out: list[LeftOut] = dataclasses.field(default_factory=list)
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    num_coarse: int = 0
    num_not_whole: int = 0


def _mass_density(density: Density) -> float:
    """g/cm^3."""
    mass = sum(float(Element.from_Z(int(z)).atomic_mass) for z in density.species)  # u
    return mass / density.volume * _GRAMS


def _label(spec: TargetSpec, value: float | None) -> Any:
    return missing_label(spec) if value is None else np.float32(value)
