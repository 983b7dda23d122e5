"""Electrons that each element brings to the cells of a dataset."""

from collections.abc import Sequence

import numpy as np


def fit_valence(
    species: Sequence[np.ndarray], num_electrons: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Electrons that each element brings, from cells' compositions and electron counts.

    Solves composition [n, Z] @ valence [Z] = num_electrons [n] by least squares. An element that
    occurs only in fixed proportion to another has no valence of its own: NaN. So has one whose
    solution is not a whole number: its counts contradict each other (several potentials).

    Args:
        species: n arrays of atomic numbers.
        num_electrons: [n].

    Returns:
        (atomic numbers [Z], valence [Z]).
    """
    elements = np.unique(np.concatenate(species))
    composition = np.stack([(atoms[:, None] == elements).sum(0) for atoms in species]).astype(float)
    # By the normal equations, which are a hundred times smaller than the rows; counts are whole
    # numbers, so their products are exact.
    gram = composition.T @ composition  # [Z, Z]
    inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ composition.T  # [Z, n]
    solution = inverse @ num_electrons
    determined = np.abs(inverse @ composition - np.eye(len(elements))).max(1) < 1e-6
    whole = np.abs(solution - np.round(solution)) < 0.05
    return elements, np.where(determined & whole, np.round(solution), np.nan)
