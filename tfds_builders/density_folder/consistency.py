"""Whether the densities of a folder hold the same electrons for each element."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse

from densityjax.density.valence import is_usual, usual_sums, valence_range

_MAX_FITTED = 4000  # materials from which the electrons of the elements are found
_ELECTRONS, _RELATIVE = 0.5, 0.01  # a material this far off is odd
_WITNESSES = 2  # other materials that must agree on each of its elements
# One is enough where only the others' number is one that usual pseudopotentials give.
_WITNESSES_OF_USUAL = 1


@dataclasses.dataclass(frozen=True)
class Odd:
    """A material whose electrons are not those of its atoms in the other materials.

    Attributes:
        place: in the arguments of `odd_ones`.
        electrons: that it has.
        expected: that its atoms have in the others.
    """

    place: int
    electrons: float
    expected: float


def odd_ones(electrons: Sequence[float], species: Sequence[np.ndarray]) -> list[Odd]:
    """Materials that contradict the others: one spin, another unit, another potential.

    The electrons of each element are those that leave the least sum of absolute relative misfits,
    which a few odd materials do not move (least absolute deviations, a linear program). A material
    is judged where each of its elements is in two others at least that fit, or in one if usual
    valences give the number that these let expect, and not the material's own.

    Args:
        electrons: [n] of each cell, were it neutral.
        species: n arrays of atomic numbers.
    """
    if not len(species):
        return []
    counts = np.stack(  # [n, 120]
        [np.bincount(atoms, minlength=120).astype(np.int32) for atoms in species]
    )
    total = np.asarray(electrons, np.float64)  # [n]
    present = np.flatnonzero(counts.any(0))
    counts = counts[:, present].astype(np.float64)  # [n, E]
    if not len(present) or (total <= 0).all():
        return []
    chosen = np.flatnonzero(total > 0)
    if len(chosen) > _MAX_FITTED:
        chosen = np.random.default_rng(0).choice(chosen, _MAX_FITTED, replace=False)
    per_atom = _fit(counts[chosen], total[chosen], present)  # [E]
    expected = counts @ per_atom  # [n]
    off = np.abs(total - expected) > np.maximum(_ELECTRONS, _RELATIVE * np.maximum(total, expected))
    witnesses = (counts[~off] > 0).sum(0)  # [E] materials that fit
    fewest = np.where(counts > 0, witnesses, _WITNESSES).min(1)  # [n] of any of its elements
    return [
        Odd(int(place), float(total[place]), float(expected[place]))
        for place in np.flatnonzero(off & (fewest >= _WITNESSES_OF_USUAL))
        if fewest[place] >= _WITNESSES
        or _only_expected_is_usual(species[place], total[place], expected[place])
    ]


def _only_expected_is_usual(species: np.ndarray, found: float, expected: float) -> bool:
    """Whether usual valences of atoms [N] give a number of electrons that is not the one found."""
    sums = usual_sums(species)
    return is_usual(expected, sums) and not is_usual(found, sums)


def _fit(counts: np.ndarray, total: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """[E] electrons of each element z: min of sum |counts z - total| / scale over possible z.

    The scale is `total`, or what the atoms have at least, if that is more: half of a density weighs
    no more than a whole one.

    Args:
        counts: [n, E] atoms.
        total: [n] electrons.
        elements: [E] atomic numbers, which bound z: fewer than usual potentials have no element.
    """
    rows = len(counts)
    usual = [valence_range(np.array([number])) for number in elements]
    fewest = np.array([found[0] if found else 0 for found in usual], np.float64)  # [E]
    scale = np.maximum(total, counts @ fewest)  # [n]
    scaled = scipy.sparse.csr_matrix(counts / scale[:, None])
    slack = scipy.sparse.identity(rows, format="csr")
    # Misfit = up - down, both at least 0; their sum is the absolute misfit where it is least.
    solution = scipy.optimize.linprog(
        np.concatenate([np.zeros(len(elements)), np.ones(2 * rows)]),
        A_eq=scipy.sparse.hstack([scaled, slack, -slack]), b_eq=total / scale,
        bounds=[(least, None) for least in [*fewest, *[0] * (2 * rows)]], method="highs",
    )
    return solution.x[: len(elements)]
