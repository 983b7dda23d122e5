"""Which rows of LeMat-Rho become records; README.md states every rule."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.density.reader import Density, DensityFormatError, density_from_row
from densityjax.density.valence import valence_range

ID, DENSITY, SHAPE = "immutable_id", "charge_density", "charge_density_grid_shape"
STRUCTURE = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
# Å between neighbouring points: beyond the first nothing of a bond is left; VASP's own grid of a
# 680 eV calculation has about 0.1, and half of the plane waves' detail is lost beyond the second.
MAX_SPACING = 0.5
COARSE_SPACING = 0.25
ELECTRON_TOLERANCE = 1e-3  # relative, beyond the bounds; float32 and the interpolation


class UnusableRowError(Exception):
    """A row is left out.

    Attributes:
        kind: the reason, the same for rows that are alike.
        detail: what is particular to the row.
    """

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


def check_names(row: Mapping[str, Any], functional: str, seen: set[str]) -> str:
    """The id of a row. Raises UnusableRowError if it has none, or another functional.

    Args:
        row: columns as pyarrow's scalars.
        functional: that a row must name, where the shard has the column.
        seen: ids of the rows before it.
    """
    material_id = str(row[ID].as_py() or "")
    if not material_id:
        raise UnusableRowError(f"no {ID}")
    if material_id in seen:
        raise UnusableRowError(f"another row has this {ID}")
    found = row["functional"].as_py() if "functional" in row else functional
    if str(found).casefold() != functional.casefold():
        raise UnusableRowError(f"functional {found}, not {functional}")
    for name in (DENSITY, SHAPE):
        if not row[name].is_valid:
            raise UnusableRowError(f"{name} is null")
    return material_id


def read_row(row: Mapping[str, Any], place: str) -> Density:
    """The density of a row of pyarrow's scalars. Raises UnusableRowError if it is damaged."""
    values = {name: row[name].as_py() for name in (*STRUCTURE, SHAPE)}
    values[DENSITY] = row[DENSITY].values.to_numpy(zero_copy_only=False)  # [X * Y * Z]
    try:
        return density_from_row(values, place)
    except DensityFormatError as error:
        raise UnusableRowError("damaged", str(error).removeprefix(f"{place}: ")) from error


def check_density(density: Density) -> None:
    """Raises UnusableRowError if a grid is too coarse, or its electrons cannot be the atoms'."""
    largest = spacing(density)
    if largest > MAX_SPACING:
        raise UnusableRowError(
            f"a grid too coarse (points over {MAX_SPACING} Å apart)",
            f"{' x '.join(map(str, density.values.shape))} points, up to {largest:.2f} Å apart",
        )
    found = density.num_electrons
    highest = int(density.species.sum())
    lowest, _ = valence_range(density.species) or (0, 0)  # of an element that no potential has
    if not lowest * (1 - ELECTRON_TOLERANCE) <= found <= highest * (1 + ELECTRON_TOLERANCE):
        raise UnusableRowError(
            "a number of electrons that its atoms cannot have",
            f"{found:.3f}; expected from {lowest} (valence) to {highest} (all)",
        )


def spacing(density: Density) -> float:
    """The largest distance of neighbouring points along an axis, Å."""
    lengths = np.linalg.norm(density.lattice, axis=1)  # [3] Å
    return float((lengths / density.values.shape).max())
