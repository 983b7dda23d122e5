"""How much of each module a new target wants: weights on the simplex, and how sure they are."""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy.optimize import nnls

_HEAVY = 1e4  # of the row that makes weights sum to 1, over the norm of the others


def simplex_weights(
    predictions: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Weights w >= 0 with sum 1 that minimise the squared errors of sum_j w_j predictions_j.

    As arXiv 2502.15483 finds them, by non-negative least squares (Lawson and Hanson 1974) with a
    heavy row of ones.

    Args:
        predictions: [M, n, K] of M modules; K is 1, or the number of classes.
        labels: [n, K] standardised.
        counts: [n] how often each row counts; None for once.

    Returns:
        [M].
    """
    size = len(predictions)
    root = np.ones(len(labels)) if counts is None else np.sqrt(counts)  # [n]
    matrix = (predictions * root[:, None]).reshape(size, -1).T  # [n K, M]
    goal = (labels * root[:, None]).reshape(-1)
    heavy = _HEAVY * max(np.abs(matrix).max(initial=0.0), np.abs(goal).max(initial=0.0), 1.0)
    weights, _ = nnls(np.vstack([matrix, np.full((1, size), heavy)]), np.append(goal, heavy))
    return weights / weights.sum()


def resampled_counts(systems: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is in each resample of the chemical systems, the independent units.

    Args:
        systems: [n] str.

    Yields:
        [n] int, `resamples` times.
    """
    names, inverse = np.unique(systems, return_inverse=True)
    rng = np.random.default_rng([seed, 3])
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[inverse]


def bootstrap_weights(
    predictions: np.ndarray, labels: np.ndarray, counts: Iterable[np.ndarray]
) -> np.ndarray:
    """`simplex_weights` of resamples.

    Args:
        predictions: [M, n, K] of rows that were left out; they are not made anew.
        counts: [n] of each resample, see `resampled_counts`.

    Returns:
        [R, M] of R resamples.
    """
    return np.stack([simplex_weights(predictions, labels, one) for one in counts])
