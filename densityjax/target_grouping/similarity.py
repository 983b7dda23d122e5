"""What a comparison of targets gives: similarities of all pairs, and how surely.

Every similarity lies in [0, 1]. Resamples and permutations are seeded: the same labels give the
same numbers.
"""

import dataclasses

import numpy as np

SIGNIFICANT = 0.05  # adjusted p-values below it


@dataclasses.dataclass(frozen=True)
class Similarity:
    """One measure for all pairs of targets.

    Attributes:
        values: [T, T] in [0, 1], symmetric, 1 on the diagonal.
        signed: [T, T] with the sign of the dependence where it has one, NaN elsewhere; None for
          measures without a sign.
        p: [T, T] p-values of no dependence, 0 on the diagonal; None where not tested.
        p_adjusted: [T, T], after Benjamini and Hochberg over the pairs.
        directed: [T, T] from source (row) to target (column), of measures that have a direction.
    """

    values: np.ndarray
    signed: np.ndarray | None = None
    p: np.ndarray | None = None
    p_adjusted: np.ndarray | None = None
    directed: np.ndarray | None = None


def with_diagonal(values: np.ndarray, diagonal: float) -> np.ndarray:
    """[..., T, T] with one value for each target and itself."""
    return np.where(np.eye(values.shape[-1], dtype=bool), diagonal, values)
