"""p-values of no dependence: labels permuted, or signs of epochs flipped, by SciPy.

A p-value is (1 + number of random permutations at least as dependent) / (1 + N), or the exact share
where all permutations are tried. Statistics are rounded: what differs by rounding is equal.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import false_discovery_control, permutation_test

_BATCH = 4_000_000  # permuted indices held at once
_DECIMALS = 12


def order_p_value(
    statistic: Callable[..., np.ndarray], lengths: Sequence[int], permutations: int,
    rng: np.random.Generator,
) -> float:
    """p-value of a statistic whose labels are put in random orders.

    Args:
        statistic: takes random orders [N, n], one array for each n in `lengths`, and gives [N];
          larger is more dependent. Orders are drawn independently of each other.
        lengths: numbers of labels.
        permutations: random orders, N in all.
    """
    longest = max(lengths)

    def evaluate(*orders: np.ndarray, axis: int) -> np.ndarray:
        """[] or [N] of orders [longest] or [N, longest]; SciPy wants samples of one length."""
        # The places below n in a random order of more are in a random order themselves.
        cut = [each[each < n].reshape(-1, n) for each, n in zip(orders, lengths, strict=True)]
        return np.round(statistic(*cut), _DECIMALS).reshape(orders[0].shape[:-1])

    result = permutation_test(
        (np.arange(longest),) * len(lengths), evaluate, permutation_type="pairings",
        vectorized=True, n_resamples=permutations, batch=max(1, _BATCH // longest),
        alternative="greater", rng=rng,
    )
    return float(result.pvalue)


def flip_p_values(series: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """[...] p-values that a mean over epochs is positive, from flipped signs of whole epochs.

    Args:
        series: [epochs, ...].
        permutations: random flips; all 2^epochs are tried where there are no more.
    """
    if len(series) == 1:  # SciPy takes two or more; an epoch of zeros changes no comparison
        series = np.concatenate([series, np.zeros_like(series)])
    result = permutation_test(
        (series,), lambda flipped, axis: np.round(flipped.mean(axis), _DECIMALS),
        permutation_type="samples", vectorized=True, n_resamples=permutations,
        alternative="greater", axis=0, rng=rng,
    )
    return np.asarray(result.pvalue)


def adjust(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's (1995) adjustment over the pairs of a symmetric [T, T] matrix."""
    adjusted = np.zeros_like(p)
    rows, columns = np.triu_indices(len(p), 1)
    if len(rows):
        adjusted[rows, columns] = false_discovery_control(p[rows, columns])
    return adjusted + adjusted.T
