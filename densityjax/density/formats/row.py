"""Rows of a table (parquet) with a flat density and its shape, as in LeMat-Rho."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pymatgen.core import Element

from densityjax.density.density import (
    MAX_ATOMS,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
)

MAX_POSITION = 1e9  # Å; a position may be many cells away


def density_from_row(
    row: Mapping[str, Any],
    source: str,
    *,
    density: str = "charge_density",
    shape: str = "charge_density_grid_shape",
) -> Density:
    """Density of a row of LeMat-Rho (https://huggingface.co/datasets/LeMaterial/LeMat-Rho).

    Args:
        row: columns by name, as lists or arrays (`pyarrow.Table.to_pylist` gives them). Used:
            lattice_vectors [3, 3] Å, cartesian_site_positions [N, 3] Å, species_at_sites [N]
            symbols, and the two that the other arguments name.
        density: column of X * Y * Z numbers, rho * V_cell, z fastest (C order); null where the
            dataset has none. Nested lists [X][Y][Z] are taken too.
        shape: column of the grid's [X, Y, Z].

    Raises:
        DensityFormatError: a column is absent, null or holds something else.
    """

    def numbers(column: str, size: tuple[int, ...] | None) -> np.ndarray:
        if row.get(column) is None:
            raise DensityFormatError(f"{source}: column '{column}' is absent or null")
        expected = f"{' x '.join('N' if n < 0 else str(n) for n in size or (-1,))} numbers"
        try:
            # A copy: pyarrow's arrays cannot be written to.
            array = np.array(row[column], np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DensityFormatError(f"{source}: column '{column}': expected {expected}") from error
        if size and (
            array.ndim != len(size) or any(n not in (-1, m) for n, m in zip(size, array.shape))
        ):
            raise DensityFormatError(
                f"{source}: column '{column}': expected {expected}, found shape {array.shape}"
            )
        return array

    grid = numbers(shape, (3,))
    if not np.isfinite(grid).all() or (grid != np.round(grid)).any() or abs(grid).max() > 2**31:
        raise DensityFormatError(f"{source}: column '{shape}': expected three whole numbers")
    grid = check_shape([int(n) for n in grid], f"{source}: column '{shape}'")
    values = numbers(density, None)
    if values.size != math.prod(grid) or (values.ndim > 1 and values.shape != grid):
        raise DensityFormatError(
            f"{source}: column '{density}': expected {math.prod(grid)} numbers for a grid of "
            f"{grid}, found shape {values.shape}"
        )
    lattice = numbers("lattice_vectors", (3, 3))  # [3, 3] Å
    volume = check_lattice(lattice, f"{source}: column 'lattice_vectors'")
    positions = numbers("cartesian_site_positions", (-1, 3))  # [N, 3] Å
    if not (abs(positions) < MAX_POSITION).all():  # NaN fails every comparison
        raise DensityFormatError(
            f"{source}: column 'cartesian_site_positions': expected three finite numbers for each "
            f"atom, below {MAX_POSITION:g} Å"
        )
    symbols = row.get("species_at_sites")
    if symbols is None or len(symbols) != len(positions) or len(symbols) > MAX_ATOMS:
        raise DensityFormatError(
            f"{source}: column 'species_at_sites': expected {len(positions)} element symbols"
        )
    try:
        species = np.array([Element(str(symbol)).Z for symbol in symbols], np.int64)  # [N]
    except ValueError as error:
        raise DensityFormatError(
            f"{source}: column 'species_at_sites': expected element symbols: {error}"
        ) from error
    return make_density(
        values.reshape(grid), (), lattice, species, positions @ np.linalg.inv(lattice), source,
        factor=1 / volume, code="VASP",
    )
