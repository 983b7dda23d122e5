"""Histograms that change continuously with the data."""

import numpy as np


def soft_histogram(
    values: np.ndarray, nodes: np.ndarray, *weights: np.ndarray, ascending: bool = False
) -> np.ndarray:
    """Shares of the weight at equally spaced nodes, each point shared by the two nearest.

    A point between two nodes counts for each in proportion to its nearness, so that rounding moves
    no share from bin to bin. Points beyond the ends count for the ends.

    Args:
        values: [n].
        nodes: [b] ascending, equally spaced.
        *weights: [n] each, not negative; a histogram for each of them.
        ascending: the values are, which takes a tenth of the time.

    Returns:
        float64 [b] for each of the weights, one after the other, of sum 1 (0 if there is no
        weight).
    """
    lower, place = _places(values, nodes)
    sums = sums_ascending if ascending and values.size > 1 else np.bincount
    found = []
    for weight in weights:
        shares = sums(lower, weight, len(nodes))
        above = sums(lower, place * weight, len(nodes))
        shares -= above
        shares[1:] += above[:-1]
        total = shares.sum()
        found.append(shares / total if total > 0 else shares)
    return np.concatenate(found)


def soft_histograms(values: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """`soft_histogram` of each row of values [r, n] with equal weights, float64 [r, b]."""
    rows, count = len(values), len(nodes)
    lower, place = _places(values, nodes)  # [r, n]
    lower = (lower + count * np.arange(rows)[:, None]).ravel()
    shares = np.bincount(lower, minlength=rows * count).astype(np.float64).reshape(rows, count)
    above = np.bincount(lower, place.ravel(), rows * count).reshape(rows, count)
    shares -= above
    shares[:, 1:] += above[:, :-1]
    return shares / values.shape[1]


def _places(values: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Node below each of the values, and how far it lies towards the next, 0 to 1."""
    # Python's floats leave the type of the values as it is.
    first, step = float(nodes[0]), float(nodes[1] - nodes[0])
    place = (values - first) * (1 / step)
    np.clip(place, 0, len(nodes) - 1 - 1e-4, out=place)
    lower = place.astype(np.intp)  # towards 0, so down
    place -= lower
    return lower, place


def sums_ascending(bins: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Sum of the weights [n, ...] in each of `count` bins, float64 [count, ...]; bins ascend."""
    edges = np.searchsorted(bins, np.arange(count + 1))
    padded = np.concatenate([weight, np.zeros((1, *weight.shape[1:]))])  # ends the last bin
    sums = np.add.reduceat(padded, edges[:-1])
    sums[edges[1:] == edges[:-1]] = 0.0
    return sums
