"""Histograms that change continuously with the data."""

import numpy as np


def soft_histogram(values: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Shares of the weight at equally spaced nodes, each point shared by the two nearest.

    A point between two nodes counts for each in proportion to its nearness, so that rounding moves
    no share from bin to bin. Points beyond the ends count for the ends.

    Args:
        values: [n].
        nodes: [b] ascending, equally spaced.
        weights: [n] not negative.

    Returns:
        float64 [b], of sum 1 (0 if there is no weight).
    """
    place = (values - nodes[0]) / (nodes[1] - nodes[0])
    place = np.clip(place, 0, len(nodes) - 1 - 1e-4)
    lower = place.astype(np.int32)
    upper_weights = (place - lower) * weights
    shares = np.bincount(lower, weights - upper_weights, len(nodes))
    shares[1:] += np.bincount(lower, upper_weights, len(nodes))[:-1]
    total = shares.sum()
    return shares / total if total > 0 else shares
