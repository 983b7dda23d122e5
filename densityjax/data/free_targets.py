"""What records say of themselves for nothing, as pretraining learns it: fitted, standardised, kept.

All is fitted to training rows: average atoms, principal components, means and spreads.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from densityjax.data.dataset import DatasetError
from densityjax.data.records import Records, field_rows
from densityjax.features.average_atoms import MAX_DENSITIES, AverageAtoms, fit_average_atoms
from densityjax.features.reduction import Reduction, fit_reduction
from densityjax.features.voxel_targets import VOXEL, voxel_targets, voxel_width

MAX_SCALED = 200  # materials that means and spreads of voxels are fitted to
# Least that numbers are divided by: what varies less is taken for constant, and divided by 1. The
# largest numbers of a voxel, some 20, stay finite in float16 if they are divided by it.
_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True)
class FreeTargets:
    """What makes the free targets of any records, fitted to training rows.

    Attributes:
        names: objectives, in the order of the columns of the losses.
        atoms: average atoms, where 'deformation' is learned.
        reduction: of the invariants, where 'invariants' are learned.
        view_std: [D] of their principal components, whose mean is 0.
        voxel_mean, voxel_std: [K] of `features.voxel_targets`.
    """

    names: tuple[str, ...]
    atoms: AverageAtoms | None
    reduction: Reduction | None
    view_std: np.ndarray
    voxel_mean: np.ndarray
    voxel_std: np.ndarray

    def known(self, records: Records) -> np.ndarray:
        """[n, O] float32, 1 where a material has the target of an objective."""
        mask = np.ones((len(records), len(self.names)), np.float32)
        for place, name in enumerate(self.names):
            if name in VOXEL:
                mask[:, place] = [self._has(name, species) for species in records.species]
        return mask

    def check_known(self, records: Records) -> None:
        """Raises DatasetError where no record has the target of any objective."""
        if not self.known(records).any():
            known = () if self.atoms is None else self.atoms.numbers
            others = sorted({*records.species.values.tolist()} - {*known, 0})
            raise DatasetError(
                f"config.pretraining.objectives: no record of the validation fold can be judged by "
                f"{', '.join(self.names)}: none names its atoms, or each has one that no training "
                f"density has ({', '.join(chemical_symbols[n] for n in others)}); choose "
                "another config.data.validation_fold, or add an objective of the field"
            )

    def of(self, records: Records, keep: bool) -> "RecordTargets":
        """Those of some records; `keep` holds what is computed in memory, 2 bytes a number."""
        view = np.zeros((len(records), len(self.view_std)), np.float32)  # [n, D]
        if self.reduction is not None:
            view = self.reduction(records.features["invariants"]) / self.view_std
        return RecordTargets(self, records, view.astype(np.float32), {} if keep else None)

    def voxels(self, record: Mapping[str, Any]) -> np.ndarray:
        """[G, G, G, K] float16 of a record, standardised; of no meaning where `known` is 0."""
        parts = [voxel_targets(record, (), None)]  # of no number
        for name in (name for name in self.names if name in VOXEL):
            if self._has(name, record["species"]):
                parts.append(voxel_targets(record, (name,), self.atoms))
            else:
                parts.append(np.zeros((*parts[0].shape[:3], VOXEL[name])))  # the mask knows
        values = np.concatenate(parts, axis=-1)
        return ((values - self.voxel_mean) / self.voxel_std).astype(np.float16)

    def _has(self, name: str, species: np.ndarray) -> bool:
        """Whether a record of these atoms has a target of its voxels."""
        if not _named(species):
            return False
        return name != "deformation" or np.isin(species, self.atoms.numbers).all()


@dataclasses.dataclass(frozen=True, eq=False)
class RecordTargets:
    """Free targets of records, by row; see `FreeTargets.of`."""

    fitted: FreeTargets
    records: Records
    view: np.ndarray
    kept: dict[int, np.ndarray] | None

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """{'voxels': [B, G, G, G, K], 'view': [B, D]} float32 of some rows."""
        grid = self.records.grid
        voxels = np.zeros((len(rows), grid, grid, grid, len(self.fitted.voxel_mean)), np.float32)
        if voxels.shape[-1]:
            for place, row in enumerate(rows):
                voxels[place] = self._voxels(int(row))
        return {"voxels": voxels, "view": self.view[rows]}

    def _voxels(self, row: int) -> np.ndarray:
        if self.kept is not None and row in self.kept:
            return self.kept[row]
        values = self.fitted.voxels(self.records.source[self.records.rows[row]])
        if self.kept is not None:
            self.kept[row] = values
        return values


def fit_free_targets(records: Records, names: Sequence[str], components: int) -> FreeTargets:
    """Fits to training records.

    Args:
        records: whose source gives atoms, too, where voxels have targets, and which have features
          where 'invariants' are learned, see `records.load_records`.
        names: objectives.
        components: of the invariants, D.

    Raises:
        DatasetError: records do not say of which atoms they are.
    """
    if voxel_width(names):
        _check_atoms(records, names)
    atoms = None
    if "deformation" in names:
        atoms = fit_average_atoms(_some(records, MAX_DENSITIES))
    reduction, view_std = None, np.zeros(0)
    if "invariants" in names:
        reduction = fit_reduction(records.features["invariants"], components)
        view_std = _divisor(reduction(records.features["invariants"]).std(0))
    total = squares = np.zeros(voxel_width(names))
    if len(total):
        count = 0
        for record in _some(records, MAX_SCALED):
            values = voxel_targets(record, names, atoms).reshape(-1, len(total))
            values = values.astype(np.float64)
            total, squares = total + values.mean(0), squares + np.square(values).mean(0)
            count += 1
        total, squares = total / count, squares / count
    std = _divisor(np.sqrt(np.maximum(squares - total**2, 0)))
    return FreeTargets(tuple(names), atoms, reduction, view_std, total, std)


def _divisor(std: np.ndarray) -> np.ndarray:
    return np.where(std < _SPREAD, 1.0, std)


def _named(species: np.ndarray) -> bool:
    """Whether a record says of which atoms it is."""
    return bool(len(species) and species.min())


def _some(records: Records, most: int):
    """So many records at most, a fixed draw, in order."""
    for row in field_rows(len(records), most):
        yield records.source[records.rows[row]]


def _check_atoms(records: Records, names: Sequence[str]) -> None:
    for row, species in enumerate(records.species):
        if not _named(species):
            asked = [name for name in names if voxel_width((name,))]
            raise DatasetError(
                f"config.pretraining.objectives: {', '.join(asked)} needs to know the atoms of a "
                f"density, which {records.material_id[row] or f'record {row}'} does not name: set "
                "the weight to 0, or give files that name their elements"
            )
