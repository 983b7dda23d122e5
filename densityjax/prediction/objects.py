"""Densities as people hold them in Python -> `Density`, checked as those of files are."""

import dataclasses
import os
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core import DummySpecies, Structure
from pymatgen.io.common import VolumetricData

from densityjax.density.density import (
    UNKNOWN_ELEMENT,
    Density,
    DensityFormatError,
    check_lattice,
    check_shape,
    make_density,
    without_ghosts,
)
from densityjax.density.formats import unit
from densityjax.prediction.materials import Material, make_material, read_material

KINDS = (
    "a path, a pymatgen Chgcar or VolumetricData, a pair (ASE Atoms, array), a Density, or a list "
    "of these"
)
# What a file of the same density might have shown.
_NO_CODE = (
    "which code made this density is not known, an array does not say: only its number of "
    "electrons is compared with the training data"
)
_COMPONENTS = ("diff_x", "diff_y", "diff_z")


def is_pair(x: Any) -> bool:
    """Whether it is, or is meant as, (ASE Atoms, array): one density rather than a list of two."""
    return isinstance(x, tuple) and len(x) == 2 and (
        isinstance(x[0], Atoms) or isinstance(x[1], np.ndarray)
    )


def name_of(x: Any, place: int | None = None) -> str:
    """What stands for it in the column 'file' and in messages: 'CHGCAR.xz', 'Chgcar [3]'.

    Args:
        place: in a list, from 0; None for one alone.
    """
    if isinstance(x, str | os.PathLike):
        return os.fsdecode(x)
    if isinstance(x, Density) and x.source:
        return x.source
    kind = type(x[0] if is_pair(x) else x).__name__
    return kind if place is None else f"{kind} [{place}]"


def material_of(x: Any, grid: int, source: str) -> Material | str:
    """The material of a path or of a density in memory, or what is wrong with it.

    Args:
        x: see `density_of`, or a path.
        grid: of the model, voxels along each axis.
        source: its name, see `name_of`.
    """
    if isinstance(x, str | os.PathLike):
        return read_material(source, grid)
    try:
        return make_material(density_of(x, source), grid)
    except DensityFormatError as error:
        return str(error)
    except MemoryError:
        return f"{source}: this machine has too little memory for it"


def density_of(x: Any, source: str) -> Density:
    """A valid density, of copies of the arrays.

    Args:
        x: one of

          * a pymatgen `Chgcar`: data 'total' [X, Y, Z] is rho * V_cell in electrons, 'diff' the
            same of the magnetisation, or 'diff_x', 'diff_y', 'diff_z';
          * another `VolumetricData`, whose unit its electrons must tell (e/Bohr^3, as
            `VolumetricData.from_cube` leaves it, e/Å^3 or rho * V_cell);
          * a pair (ASE `Atoms`, array): [X, Y, Z] e/Å^3, or [X, Y, Z, 2] with the magnetisation in
            μB/Å^3, spin up minus spin down;
          * a `Density`, which is checked again.
        source: names it in messages.

    Raises:
        DensityFormatError: it is none of these, or what it holds is no density.
    """
    if isinstance(x, Density):
        return _of_density(x, source)
    if isinstance(x, VolumetricData):
        return _of_pymatgen(x, source)
    if is_pair(x) and isinstance(x[0], Atoms):
        return _of_ase(*x, source)
    raise DensityFormatError(f"{source}: expected {KINDS}, found {_described(x)}")


def _described(x: Any) -> str:
    kinds = f" of {', '.join(type(e).__name__ for e in x)}" if isinstance(x, tuple) else ""
    return f"{type(x).__module__}.{type(x).__qualname__}{kinds}".removeprefix("builtins.")


def _of_density(x: Density, source: str) -> Density:
    fields = _arrays([x.values, *([] if x.magnetization is None else [x.magnetization])], source)
    lattice = _numbers(x.lattice, "the lattice", source, (3, 3))
    species = _real(x.species, source).reshape(-1)  # [N]
    positions = _numbers(x.positions, "positions", source, (len(species), 3))
    made = make_density(
        fields[0], fields[1:], lattice, species, positions, source, factor=1.0, code=x.code,
        charge=x.charge,
    )
    notes = tuple(dict.fromkeys((*x.notes, *made.notes)))
    return dataclasses.replace(made, notes=notes, stated_spins=x.stated_spins)


def _of_pymatgen(x: VolumetricData, source: str) -> Density:
    # Takes half a second, and has been paid by who has one of its objects.
    from pymatgen.io.vasp.outputs import Chgcar, Elfcar, Locpot

    if isinstance(x, Elfcar | Locpot):
        held = "a potential" if isinstance(x, Locpot) else "an electron localisation function"
        raise DensityFormatError(f"{source}: {held}, expected a density")
    if "total" not in x.data:
        raise DensityFormatError(
            f"{source}: expected data 'total', the density of both spins, found {list(x.data)}"
        )
    components = all(name in x.data for name in _COMPONENTS)
    names = _COMPONENTS if components else ("diff",) if "diff" in x.data else ()
    fields = _arrays([x.data[name] for name in ("total", *names)], source)
    lattice, species, positions = _of_structure(x.structure, source)
    if isinstance(x, Chgcar):
        code = "VASP" if any(map(len, (x.data_aug or {}).values())) else "unknown"
        factor, notes = 1 / check_lattice(lattice, source), ()
    else:
        code = "unknown"
        factor, note = _unit_of(unit.Cell(lattice, positions, fields[0]), species, source)
        notes = (note, _NO_CODE)
    charge = float(x.structure.charge or 0.0)
    if not np.isfinite(charge):
        raise DensityFormatError(f"{source}: a charge of {charge}, expected a finite number")
    return make_density(
        fields[0], fields[1:], lattice, species, positions, source, factor=factor, code=code,
        charge=charge, notes=notes,
    )


def _of_structure(
    structure: Structure, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lattice [3, 3] Å, species [N], fractional positions [N, 3]."""
    if not structure.is_ordered:
        raise DensityFormatError(f"{source}: expected one whole atom on each site")
    lattice = _numbers(structure.lattice.matrix, "the lattice", source, (3, 3))
    check_lattice(lattice, source)
    numbers = [
        UNKNOWN_ELEMENT if isinstance(site.specie, DummySpecies) else site.specie.Z
        for site in structure
    ]
    return lattice, np.array(numbers, np.int64), np.array(structure.frac_coords)


def _unit_of(cell: unit.Cell, species: np.ndarray, source: str) -> tuple[float, str]:
    """The factor of a unit that is stated nowhere to e/Å^3, and a note of what was taken."""
    check_lattice(cell.lattice, source)
    found = unit.possible(cell, species)
    if len(found) == 1:
        name, factor, electrons = found[0]
        return factor, f"taken as {name}, in which it holds {electrons:.6g} electrons"
    several = " and ".join(f"{name} ({electrons:.6g})" for name, _, electrons in found)
    reason = f"{several} all give" if found else "neither e/Bohr^3 nor e/Å^3 nor rho * V_cell gives"
    raise DensityFormatError(
        f"{source}: its unit is not stated, and {reason} a number of electrons that its atoms may "
        "have; give a Chgcar (rho * V_cell) or a pair (ASE Atoms, array in e/Å^3)"
    )


def _of_ase(atoms: Atoms, array: Any, source: str) -> Density:
    given = _real(array, source)
    fields = [given]
    if given.ndim == 4 and given.shape[-1] in (1, 2):
        fields = [given[..., channel] for channel in range(given.shape[-1])]
    elif given.ndim != 3:
        raise DensityFormatError(
            f"{source}: expected an array [X, Y, Z] or [X, Y, Z, 2], found the shape {given.shape}"
        )
    fields = _arrays(fields, source)
    lattice = _numbers(atoms.cell.array, "the cell", source, (3, 3))
    check_lattice(lattice, source)
    real, notes = without_ghosts(atoms.numbers)
    species = np.maximum(atoms.numbers[real], UNKNOWN_ELEMENT)  # [N]
    with np.errstate(over="ignore", invalid="ignore"):
        positions = atoms.positions[real] @ np.linalg.inv(lattice)  # [N, 3] fractional
    if not atoms.pbc.all():
        notes.append("the atoms are not periodic in all directions, their density is taken so")
    cell, factor, taken = unit.choose(
        [unit.Cell(lattice, positions, fields[0])], species, unit=unit.PER_A3
    )
    return make_density(
        cell.values, fields[1:], lattice, species, positions, source, factor=factor,
        notes=[*notes, *taken, _NO_CODE],
    )


def _real(array: Any, source: str) -> np.ndarray:
    """An array as it is, if it is one of real numbers."""
    try:
        found = np.asarray(array)
    except ValueError as error:  # of lists of unequal lengths
        raise DensityFormatError(f"{source}: expected an array of numbers: {error}") from error
    if found.dtype.kind not in "fiu":
        raise DensityFormatError(
            f"{source}: expected an array of real numbers, found the type {found.dtype}"
        )
    return found


def _arrays(fields: list[Any], source: str) -> list[np.ndarray]:
    """Copies float64 [X, Y, Z], all of one shape."""
    # `make_density` writes into them.
    made = [np.array(_real(field, source), np.float64) for field in fields]
    for array in made:
        if array.shape != made[0].shape:
            raise DensityFormatError(
                f"{source}: a magnetisation of the shape {array.shape}; expected "
                f"{made[0].shape}, that of the charge"
            )
    check_shape(made[0].shape, source)
    return made


def _numbers(array: Any, what: str, source: str, shape: tuple[int, ...]) -> np.ndarray:
    """A copy, float64."""
    found = np.array(_real(array, source), np.float64)
    if found.shape != shape:
        raise DensityFormatError(f"{source}: {what}: expected the shape {shape}, found "
                                 f"{found.shape}")
    return found
