"""What records say of themselves for nothing, as pretraining learns it: fitted, standardised, kept.

All is fitted to training rows: average atoms, principal components, means and spreads.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.data.dataset import DatasetError
from densityjax.data.records import Records
from densityjax.features.average_atoms import MAX_DENSITIES, AverageAtoms, fit_average_atoms
from densityjax.features.reduction import Reduction, fit_reduction
from densityjax.features.voxel_targets import voxel_targets, voxel_width

MAX_SCALED = 200  # materials that means and spreads of voxels are fitted to
_SPREAD = 1e-6  # least, which numbers are divided by


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
        if self.atoms is not None:
            numbers = set(self.atoms.numbers.tolist())
            has = [numbers.issuperset(species.tolist()) for species in records.species]
            mask[:, self.names.index("deformation")] = has
        return mask

    def of(self, records: Records, keep: bool) -> "RecordTargets":
        """Those of some records; `keep` holds what is computed in memory, 2 bytes a number."""
        view = np.zeros((len(records), len(self.view_std)), np.float32)  # [n, D]
        if self.reduction is not None:
            view = self.reduction(records.features["invariants"]) / self.view_std
        return RecordTargets(self, records, view.astype(np.float32), {} if keep else None)

    def voxels(self, record: Mapping[str, Any]) -> np.ndarray:
        """[G, G, G, K] float16 of a record, standardised; 0 of elements without average atoms."""
        names = self.names
        unknown = self.atoms is not None and not set(
            np.asarray(record["species"]).tolist()
        ).issubset(self.atoms.numbers.tolist())
        if unknown:
            names = tuple(name for name in names if name != "deformation")
        values = voxel_targets(record, names, self.atoms)
        if unknown:  # the last of the columns; the mask leaves it out of the loss
            values = np.pad(values, ((0, 0),) * 3 + ((0, 1),))
        return ((values - self.voxel_mean) / self.voxel_std).astype(np.float16)


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


def fit_free_targets(
    records: Records, names: Sequence[str], components: int,
    atoms: AverageAtoms | None = None,
) -> FreeTargets:
    """Fits to training records.

    Args:
        records: whose source gives atoms, too, where voxels have targets, and which have features
          where 'invariants' are learned, see `records.load_records`.
        names: objectives.
        components: of the invariants, D.
        atoms: fitted before to the same records, which then is not done again.

    Raises:
        DatasetError: records do not say of which atoms they are.
    """
    if voxel_width(names):
        _check_atoms(records, names)
    if "deformation" not in names:
        atoms = None
    elif atoms is None:
        atoms = fit_average_atoms(_some(records, MAX_DENSITIES))
    reduction, view_std = None, np.zeros(0)
    if "invariants" in names:
        reduction = fit_reduction(records.features["invariants"], components)
        view_std = np.maximum(reduction(records.features["invariants"]).std(0), _SPREAD)
    total = squares = np.zeros(voxel_width(names))
    if len(total):
        count = 0
        for record in _some(records, MAX_SCALED):
            values = voxel_targets(record, names, atoms).reshape(-1, len(total))
            values = values.astype(np.float64)
            total, squares = total + values.mean(0), squares + np.square(values).mean(0)
            count += 1
        total, squares = total / count, squares / count
    std = np.sqrt(np.maximum(squares - total**2, _SPREAD**2))
    return FreeTargets(tuple(names), atoms, reduction, view_std, total, std)


def _some(records: Records, most: int):
    """So many records at most, a fixed draw, in order."""
    rows = np.arange(len(records))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), most, replace=False))
    for row in rows:
        yield records.source[records.rows[row]]


def _check_atoms(records: Records, names: Sequence[str]) -> None:
    for row, species in enumerate(records.species):
        if not len(species) or not species.min():
            asked = [name for name in names if voxel_width((name,))]
            raise DatasetError(
                f"config.pretraining.objectives: {', '.join(asked)} needs to know the atoms of a "
                f"density, which {records.material_id[row] or f'record {row}'} does not name: set "
                "the weight to 0, or give files that name their elements"
            )
