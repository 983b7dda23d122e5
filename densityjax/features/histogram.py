"""Histograms that change continuously with the data."""

import numpy as np


def soft_histogram(values: np.ndarray, nodes: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    """Shares of the weight at equally spaced nodes, each point shared by the two nearest.

    A point between two nodes counts for each in proportion to its nearness, so that rounding moves
    no share from bin to bin. Points beyond the ends count for the ends.

    Args:
        values: [n].
        nodes: [b] ascending, equally spaced.
        *weights: [n] each, not negative; a histogram for each of them.

    Returns:
        float64 [b] for each of the weights, one after the other, of sum 1 (0 if there is no
        weight).
    """
    # Python's floats leave the type of the values as it is.
    first, step, count = float(nodes[0]), float(nodes[1] - nodes[0]), len(nodes)
    place = (values - first) * (1 / step)
    place = np.minimum(np.maximum(place, 0), count - 1 - 1e-4)
    lower = np.floor(place)
    place -= lower
    lower = lower.astype(np.intp)
    found = []
    for weight in weights:
        shares, above = _sums(lower, weight, count), _sums(lower, place * weight, count)
        shares -= above
        shares[1:] += above[:-1]
        total = shares.sum()
        found.append(shares / total if total > 0 else shares)
    return np.concatenate(found)


def _sums(bins: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Sum of the weights in each of `count` bins; ten times as fast if the bins ascend."""
    if bins.size < 2 or np.any(bins[1:] < bins[:-1]):
        return np.bincount(bins, weight, count)
    edges = np.searchsorted(bins, np.arange(count + 1))
    sums = np.add.reduceat(np.append(weight, 0.0), edges[:-1])  # the 0 ends the last bin
    return np.where(edges[1:] > edges[:-1], sums, 0.0)
