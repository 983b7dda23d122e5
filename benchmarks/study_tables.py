"""What tables of benchmarks/ share: scores with replicates, and how an interval is written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

REPLICATES = 2000

Scores = dict[str, np.ndarray]  # {'mae', 'r2'}, [R + 1] each


def weighted_scores(weights: np.ndarray, truth: np.ndarray, said: np.ndarray) -> Scores:
    """MAE and R2 of one target in every replicate.

    Args:
        weights: [R + 1, n] how often each row is drawn, see `densityjax.ablation.bootstrap.Draws`.
        truth: [n] labels, none missing.
        said: [n] predictions of them.
    """
    total = weights.sum(axis=1)
    mean = weights @ truth / total
    spread = weights @ truth**2 / total - mean**2
    return {
        "r2": 1 - weights @ (said - truth) ** 2 / total / spread,
        "mae": weights @ abs(said - truth) / total,
    }


def mean_of_seeds(of_seeds: np.ndarray, scores: Sequence[Scores]) -> Scores:
    """Means over seeds with the weights [seeds, R + 1] of each."""
    return {
        key: sum(share * own[key] for share, own in zip(of_seeds, scores, strict=True))
        for key in ("mae", "r2")
    }


def interval(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    """'+0.066 [+0.017, +0.103]' of `bootstrap.estimate`, '' where there is none."""
    if found is None or found["low"] is None:
        return ""
    return f"{found['value']:+.{digits}f} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"
