"""Files and densities as materials on the grid of a model."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densityjax.density.core import Core, seen_record
from densityjax.density.plausibility import warnings_of
from densityjax.density.reader import Density, DensityFormatError, find_files, read_density
from densityjax.density.record import make_record
from densityjax.features.record_features import record_features
from densityjax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Material:
    """What is kept of a density once it is on the grid of the model.

    Attributes:
        record: see `density.record.make_record`.
        source, code, notes: see `Density`.
        features: of the record, which is then as the model sees it; None until `prepare`.
    """

    record: Mapping[str, Any]
    source: str
    code: str
    notes: tuple[str, ...]
    features: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a model sees of a density.

    Attributes:
        grid: voxels along each axis.
        core: config.input.core.
        features: whether it sees more than the density on its grid.
    """

    grid: int
    core: Core
    features: bool


def make_material(density: Density, grid: int) -> Material:
    """A density as the builders of datasets store it, `grid` voxels along each axis.

    Raises:
        DensityFormatError: the stored density does not hold the electrons of its source.
    """
    notes = (*density.notes, *warnings_of(density))
    return Material(make_record(density, grid), density.source, density.code, notes)


def read_material(path: Path, grid: int) -> Material | str:
    """The material of a density file, or what is wrong with the file."""
    try:
        if "\0" in str(path):
            return f"{path}: a name with a NUL"
        return make_material(read_density(path), grid)
    except DensityFormatError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    except MemoryError:
        return f"{path}: this machine has too little memory for it"


def prepare(material: Material, needs: Needs) -> Material:
    """A material as a model sees it, with all that is computed of it alone."""
    if material.features is not None:
        return material
    record = seen_record(material.record, needs.core)
    features = record_features(record) if needs.features else {}
    return dataclasses.replace(material, record=record, features=features)


def expand_folders(arguments: Sequence[str]) -> list[Path]:
    """Files as given; a folder stands for its density files, see `density.reader.find_files`.

    Raises:
        UserError: a folder has none.
    """
    paths = []
    for argument in arguments:
        if not os.path.isdir(argument):  # unlike Path.is_dir no error for what cannot be a name
            paths.append(Path(argument))
            continue
        found = find_files(argument)
        if not found:
            raise UserError(
                f"folder {argument} has no file with the name of a density: CHGCAR, CHG, AECCAR, "
                "PARCHG, .cube, .xsf, or compressed .json"
            )
        paths += found
    return paths
