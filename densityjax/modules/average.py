"""Trunks averaged parameter by parameter."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

Modules = Mapping[str, Any]  # {module of the network: its parameters}


def weighted_average(trunks: Sequence[Modules], weights: Sequence[float]) -> Modules:
    """sum_j weights_j trunks_j, which makes sense for trunks that began from one start alone.

    Args:
        trunks: parameters of equal shapes, adapters included.
        weights: sum to 1.

    Returns:
        float32 parameters.
    """

    def mean(*leaves: np.ndarray) -> np.ndarray:
        total = sum(
            weight * np.asarray(leaf, np.float64) for weight, leaf in zip(weights, leaves)
        )
        return np.asarray(total, np.float32)

    return jax.tree.map(mean, *trunks)
