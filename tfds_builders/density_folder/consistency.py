"""Whether the densities of a folder hold the same electrons for each element."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse

_MAX_FITTED = 4000  # materials from which the electrons of the elements are found
_ELECTRONS, _RELATIVE = 0.5, 0.01  # a material this far off is odd
_WITNESSES = 2  # other materials that must agree on each of its elements


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
    is judged where each of its elements is in two others at least that fit.

    Args:
        electrons: [n] of each cell.
        species: n arrays of atomic numbers.
    """
    counts = np.stack([np.bincount(atoms, minlength=120) for atoms in species])  # [n, 120]
    total = np.asarray(electrons, np.float64)  # [n]
    present = np.flatnonzero(counts.any(0))
    counts = counts[:, present].astype(np.float64)  # [n, E]
    fits_needed = (counts > 0).sum(0) > _WITNESSES
    if not fits_needed.any() or (total <= 0).all():
        return []
    chosen = np.flatnonzero(total > 0)
    if len(chosen) > _MAX_FITTED:
        chosen = np.random.default_rng(0).choice(chosen, _MAX_FITTED, replace=False)
    per_atom = _fit(counts[chosen], total[chosen])  # [E]
    expected = counts @ per_atom  # [n]
    off = np.abs(total - expected) > np.maximum(_ELECTRONS, _RELATIVE * np.maximum(total, expected))
    witnesses = (counts[~off] > 0).sum(0)  # [E] materials that fit
    judged = ((counts > 0) <= (witnesses >= _WITNESSES)).all(1)  # [n]
    return [
        Odd(int(place), float(total[place]), float(expected[place]))
        for place in np.flatnonzero(off & judged)
    ]


def _fit(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[E] electrons of each element: min over z >= 0 of sum |counts z - total| / total."""
    rows, elements = counts.shape
    scaled = scipy.sparse.csr_matrix(counts / total[:, None])
    slack = scipy.sparse.identity(rows, format="csr")
    # Misfit = up - down, both at least 0; their sum is the absolute misfit where it is least.
    solution = scipy.optimize.linprog(
        np.concatenate([np.zeros(elements), np.ones(2 * rows)]),
        A_eq=scipy.sparse.hstack([scaled, slack, -slack]), b_eq=np.ones(rows),
        bounds=(0, None), method="highs",
    )
    return solution.x[:elements]
