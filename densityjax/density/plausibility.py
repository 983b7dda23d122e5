"""Reasons to look at a density more closely: one home for every command that reads densities."""

import os
from pathlib import Path

import numpy as np

from densityjax.density import geometry, names, valence
from densityjax.density.density import Density
from densityjax.density.grid import negative_fraction

_WHOLE = 0.02  # electrons; files hold five digits or more
_WHOLE_RELATIVE = 2e-4
_NEGATIVE = 0.05  # fraction of voxels; pseudo densities dip below zero in some cores
_FEW = 0.85  # of the fewest usual valence electrons; ions and alloys of pseudo-atoms have less
_NONE = 0.05  # electrons for each atom
_PARTS = ("AECCAR", "PARCHG")  # of which fractional numbers of electrons are expected


def warnings_of(density: Density, path: str | os.PathLike | None = None) -> tuple[str, ...]:
    """What speaks against a density being the whole one of its material, a sentence each.

    Args:
        density: as it was read, on its own grid.
        path: of the file, whose name may tell what it holds; by default the density's source.

    Returns:
        Warnings of the name, of the number of electrons, of distances and the room for an atom, of
        the moment and of negative voxels. What the reader had to assume is `density.notes`.
    """
    name = Path(density.source if path is None else path).name
    found = [*_of_name(density, name), *_of_electrons(density, name)]
    found += geometry.faults(density.lattice, density.species, density.positions)
    if density.magnetization is not None:
        moment, electrons = moment_of(density), density.num_electrons
        if abs(moment) > electrons * 1.001:
            found.append(f"a moment of {moment:.4g} μB is more than {electrons:.6g} electrons have")
    if (negative := negative_fraction(density.values)) > _NEGATIVE:
        found.append(f"{100 * negative:.3g} % of the density is below zero")
    return tuple(found)


def moment_of(density: Density) -> float:
    """Integral of the magnetisation over the cell, μB; of |m| if it is non-collinear."""
    return float(density.magnetization.mean() * density.volume)


def _of_name(density: Density, name: str) -> list[str]:
    if any(note.startswith("by its title") for note in density.notes):
        return []
    if not (kind := names.kind_of(name)):
        return []
    # With both spins a file is the whole density: ABACUS calls that SPIN1_CHG, too.
    whole = density.magnetization is not None or density.stated_spins in (1, 4)
    if whole and kind[0] in (names.SPIN_CHANNEL, names.SPIN_DENSITY):
        return []
    return [f"by its name ({kind[1]}) {kind[0]}, not the whole density"]


def has_next_to_none(density: Density) -> bool:
    """Whether there are so few electrons that they are a difference, or rho without the volume."""
    return density.num_electrons < _NONE * len(density.species)


def _of_electrons(density: Density, name: str) -> list[str]:
    electrons, species = density.num_electrons, density.species
    if has_next_to_none(density):
        return [f"{electrons:.4g} electrons for {len(species)} atoms: rho where rho * V_cell is "
                "expected, another unit, a difference or a part"]
    found = []
    if not any(part in name.upper() for part in _PARTS):
        whole = electrons + density.charge
        if abs(whole - round(whole)) > max(_WHOLE, _WHOLE_RELATIVE * whole):
            charge = f" (with a charge of {density.charge:+g} e)" if density.charge else ""
            found.append(
                f"{electrons:.6g} electrons are far from a whole number{charge}: a partial or "
                "all-electron density, another unit, or damaged numbers"
            )
    if not len(species) or not species.all():
        return found
    if valence.is_more_than_all(electrons, species):
        protons = int(species.sum())
        return [*found, f"{electrons:.6g} electrons, where the neutral atoms have {protons}"]
    if not (usual := valence.valence_range(species)):
        return found
    neutral = electrons + density.charge
    if neutral < _FEW * usual[0] and usual[0] - neutral > 0.5:
        found.append(f"{electrons:.6g} electrons, where these atoms have {usual[0]} valence "
                     "electrons at least: one spin, a part or a difference, or another unit")
    elif _is_half(neutral, species):
        found.append(f"{electrons:.6g} electrons are half of what these atoms may have "
                     f"({2 * neutral:.6g}): one spin, or an unusual potential")
    elif neutral > 1.02 * usual[1] + 2:
        found.append(f"{electrons:.6g} electrons, where these atoms have {usual[1]} valence "
                     "electrons at most: an all-electron density, or another unit")
    return found


def _is_half(electrons: float, species: np.ndarray) -> bool:
    """Whether usual valences give twice as many electrons, and not these."""
    sums = valence.usual_sums(species)
    return valence.is_usual(2 * electrons, sums) and not valence.is_usual(electrons, sums)
