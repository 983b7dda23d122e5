"""Similarity from what a training run gave each epoch: task affinities, cosines of gradients."""

import numpy as np

from densityjax.target_grouping.columns import GroupingError
from densityjax.target_grouping.permutation import adjust, flip_p_values
from densityjax.target_grouping.similarity import Similarity, with_diagonal


def compare_series(
    series: np.ndarray, *, scale_columns: bool, permutations: int, seed: int
) -> Similarity:
    """Similarity from a quantity that a training run gave each epoch, positive where tasks agree.

    The mean over epochs is made symmetric by the mean of both directions; below 0 there is no
    similarity. The test flips the sign of whole epochs at random: that the mean is positive. It
    is weaker than permuting materials: epochs of one run are not independent, and another run may
    differ.

    Args:
        series: [epochs, T, T] from source (row) to target (column).
        scale_columns: divide each target's column by the largest absolute entry of its mean,
          usually the effect of the target's own steps; targets learn at different speeds.
        permutations: sign flips; all of them where there are no more.
    """
    series = np.asarray(series, np.float64)
    if series.ndim != 3 or not np.all(np.isfinite(series)):
        raise GroupingError(
            f"a series of similarities over epochs has shape {series.shape} or is not finite"
        )
    if scale_columns:
        largest = np.abs(series.mean(0)).max(0)  # [T]
        series = series / np.where(largest > 0, largest, 1.0)
    directed = series.mean(0)
    symmetric = (series + series.transpose(0, 2, 1)) / 2  # [epochs, T, T]
    signed = np.clip(symmetric.mean(0), -1.0, 1.0)
    p = None
    if permutations:
        rng = np.random.default_rng([seed, 5])
        p = with_diagonal(flip_p_values(symmetric, permutations, rng), 0.0)
    return Similarity(
        with_diagonal(np.clip(signed, 0.0, 1.0), 1.0),
        signed=signed,
        p=p,
        p_adjusted=None if p is None else adjust(p),
        directed=directed,
    )
