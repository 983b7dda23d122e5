"""Whole records of the folds of a run, atoms included."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from densityjax.data.dataset import DatasetError, open_from_config
from densityjax.data.record_index import PartialSource
from densityjax.data.records import field_rows
from densityjax.features.average_atoms import MAX_DENSITIES, AverageAtoms, fit_average_atoms
from densityjax.prediction.materials import Material
from densityjax.prediction.model import Model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime.errors import UserError
from densityjax.training.setup import load_role

_FIELDS = (
    "density", "lattice", "species", "positions", "num_electrons", "negative_fraction", "formula",
    "chemical_system", "code", "material_id", "native_grid",
)


class StoredRecords:
    """Materials of a role ('train', 'validation', 'test') of a run, read when they are asked for.

    Args:
        config: of the run; its dataset is opened.

    Raises:
        DatasetError: the dataset is not there.
    """

    def __init__(self, config: ConfigDict, model: Model, role: str):
        builder = open_from_config(config.data)
        records = load_role(config, builder, model.specs, role, False, features=False)
        self._source = PartialSource(builder, records.source.stored.split, _FIELDS)
        self._rows = records.rows
        self.ids = [str(name) for name in records.material_id]

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, row: int) -> dict[str, Any]:
        """See `density.record.make_record`; texts are str."""
        found = self._source[self._rows[row]]
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}

    def material(self, row: int) -> Material:
        """As a file of it would be read."""
        record = self.record(row)
        return Material(record, self.ids[row], record["code"], ())

    def some(self, count: int) -> Iterator[dict[str, Any]]:
        """So many records at most, a fixed draw."""
        for row in field_rows(len(self), count):
            yield self.record(int(row))


def average_atoms_of(model: Model) -> AverageAtoms:
    """Those of the training densities of a run, fitted once and left in its directory.

    Raises:
        UserError: there is neither the file nor the dataset.
    """
    run = RunDirectory(model.path)
    if run.average_atoms.exists():
        return run.load(run.average_atoms, AverageAtoms.load)
    config = model.members[0][0].config.copy_and_resolve_references()
    config.data.build = False
    try:
        stored = StoredRecords(config, model, "train")
    except DatasetError as error:
        raise UserError(
            f"--reference=atoms is fitted to the training densities ({error}): take "
            "--reference=uniform"
        ) from error
    atoms = fit_average_atoms(stored.some(MAX_DENSITIES))
    with contextlib.suppress(OSError):  # of a directory that is not the user's
        atoms.save(run.average_atoms)
    return atoms
