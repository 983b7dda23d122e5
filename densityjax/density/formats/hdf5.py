"""HDF5: vaspwave.h5 of VASP, and what pymatgen's `Chgcar.to_hdf5` writes."""

import io
import os
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
from densityjax.density.formats.compression import ALWAYS_ALLOWED, MAX_RATIO

_COMPONENTS = (1, 2, 4)  # charge; charge, m; charge, mx, my, mz
_EXPECTED = ("expected a charge at /charge/charge (vaspwave.h5, written with LCHARGH5 = .TRUE.) or "
             "/vdata/total (pymatgen)")


def read_hdf5(data: bytes | str | os.PathLike, source: str) -> Density:
    """Reads a charge density, given as bytes or the path of the file.

    VASP (https://www.vasp.at/wiki/index.php/Vaspwave.h5) keeps rho * V_cell and m * V_cell as
    /charge/charge [1, 2 or 4, Z, Y, X] and the structure under /structure/positions; pymatgen keeps
    /vdata/total [X, Y, Z] in the same unit.

    Raises:
        DensityFormatError: h5py is not installed, or the file is damaged or holds no density.
    """
    try:
        import h5py  # an extra: few files are HDF5
    except ImportError as error:
        raise DensityFormatError(
            f"{source}: an HDF5 file, which needs h5py: pip install 'densityjax[hdf5]'"
        ) from error
    try:
        with h5py.File(io.BytesIO(data) if isinstance(data, bytes) else data, "r") as file:
            if "charge/charge" in file:
                return _read_vasp(file, source)
            if "vdata" in file:
                return _read_pymatgen(file, source)
            held = ", ".join(sorted(file)[:12]) or "nothing"
            raise DensityFormatError(f"{source}: HDF5 without a density, it holds {held}; "
                                     f"{_EXPECTED}")
    except DensityFormatError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError,
            OverflowError, IndexError) as error:
        raise DensityFormatError(
            f"{source}: HDF5 that is damaged, cut short or of another kind ({error}); {_EXPECTED}"
        ) from error


def _read_vasp(file: Any, source: str) -> Density:
    charge = file["charge/charge"]
    if len(charge.shape) != 4 or charge.shape[0] not in _COMPONENTS:
        raise DensityFormatError(
            f"{source}: /charge/charge has shape {charge.shape}; expected 1, 2 or 4 grids"
        )
    check_shape(charge.shape[1:], f"{source}: /charge/charge")
    _check_size(charge, source)
    where = next(
        (name for name in ("structure/positions", "locpot/position", "results/positions")
         if name in file), None,
    )
    if where is None:
        raise DensityFormatError(f"{source}: expected the structure at /structure/positions")
    group = file[where]
    scale = float(np.asarray(group["scale"])) if "scale" in group else 1.0
    lattice = np.array(group["lattice_vectors"], np.float64) * scale  # [3, 3] Å
    symbols = [_text(name).split("_")[0].split("/")[0] for name in group["ion_types"][()]]
    counts = np.array(group["number_ion_types"], np.int64)
    if len(symbols) != len(counts) or counts.min() < 0 or counts.sum() > MAX_ATOMS:
        raise DensityFormatError(f"{source}: expected a number of atoms for each element")
    species = np.repeat([Element(name).Z for name in symbols], counts)  # [N]
    positions = np.array(group["position_ions"], np.float64)  # [N, 3]
    if "direct_coordinates" in group and not int(np.asarray(group["direct_coordinates"])):
        check_lattice(lattice, source)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
            positions = positions * scale @ np.linalg.inv(lattice)
    blocks = [np.array(charge[i], np.float64).T for i in range(charge.shape[0])]  # [X, Y, Z]
    return make_density(
        blocks[0], blocks[1:], lattice, species, positions, source,
        factor=1 / check_lattice(lattice, source), code="VASP",
    )


def _read_pymatgen(file: Any, source: str) -> Density:
    grids = file["vdata"]
    spin = ("diff_x", "diff_y", "diff_z") if "diff_x" in grids else ("diff",)
    names = ("total", *(name for name in spin if name in grids))
    check_shape(grids["total"].shape, f"{source}: /vdata/total")
    for name in names:
        _check_size(grids[name], source)
    if any(grids[name].shape != grids["total"].shape for name in names):
        raise DensityFormatError(f"{source}: expected grids of one shape under /vdata")
    lattice = np.array(file["lattice"], np.float64)  # [3, 3] Å
    blocks = [np.array(grids[name], np.float64) for name in names]  # [X, Y, Z]
    return make_density(
        blocks[0], blocks[1:], lattice, np.array(file["Z"]), np.array(file["fcoords"]), source,
        factor=1 / check_lattice(lattice, source), code="VASP",
    )


def _check_size(dataset: Any, source: str) -> None:
    """Raises DensityFormatError if far more numbers are stated than stored."""
    stored, stated = dataset.id.get_storage_size(), 8 * dataset.size
    if stated > max(ALWAYS_ALLOWED, MAX_RATIO * stored):
        raise DensityFormatError(
            f"{source}: {dataset.name} states {dataset.size} numbers and stores {stored} bytes; "
            f"expected at most {MAX_RATIO} times the stored size (a damaged file, or a bomb)"
        )


def _text(value: bytes | str) -> str:
    return (value.decode() if isinstance(value, bytes) else str(value)).strip()
