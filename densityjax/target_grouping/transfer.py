"""Similarity by transfer: how well the features of one target's model predict another target."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.neighbors import NearestNeighbors

from densityjax.target_grouping.columns import Column, GroupingError, find_overlap, target_pairs
from densityjax.target_grouping.permutation import adjust, order_p_value
from densityjax.target_grouping.similarity import Similarity, with_diagonal


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Prediction of one target by nearest neighbours in the features of another's model.

    Attributes:
        rows: [m] labelled materials.
        truth: [m] their labels.
        neighbours: [m, k] positions in `rows` of each one's nearest others.
        num_classes: 0 for regression.
    """

    rows: np.ndarray
    truth: np.ndarray
    neighbours: np.ndarray
    num_classes: int

    def skill(self, counts: np.ndarray | None = None) -> float:
        """Skill in [0, 1], each of the m materials counted so often ([m], None: once)."""
        counts = np.ones(len(self.rows)) if counts is None else counts
        return float(_skill(self._predict(self.truth), self.truth, counts, self.num_classes))

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        """[N] skill with the labels in each order [N, m] and the neighbours as they are."""
        counts = np.ones(len(self.rows))
        truths = (self.truth[order] for order in orders)
        return np.array([_skill(self._predict(t), t, counts, self.num_classes) for t in truths])

    def _predict(self, truth: np.ndarray) -> np.ndarray:
        """[m]: mean of the neighbours, or their most frequent class (the first among equals)."""
        near = truth[self.neighbours]  # [m, k]
        if not self.num_classes:
            return near.mean(1)
        return (near[:, :, None] == np.arange(self.num_classes)).sum(1).argmax(1)


def _skill(prediction: np.ndarray, truth: np.ndarray, counts: np.ndarray, classes: int) -> float:
    """max(0, R2), or what balanced accuracy is above that of chance, from 0 to 1."""
    if not classes:
        mean = np.average(truth, weights=counts)
        total = np.sum(counts * (truth - mean) ** 2)
        residual = np.sum(counts * (truth - prediction) ** 2)
        return max(0.0, 1 - residual / total) if total > 0 else 0.0
    size = np.bincount(truth, counts, classes)  # [K]
    hits = np.bincount(truth, counts * (prediction == truth), classes)
    present = size > 0
    if present.sum() < 2:
        return 0.0
    chance = 1 / present.sum()
    return max(0.0, (np.mean(hits[present] / size[present]) - chance) / (1 - chance))


def transfer(features: np.ndarray, column: Column, neighbours: int = 5) -> Transfer:
    """Leave-one-out nearest neighbours (arXiv 2502.15483) for a target in another's features.

    Args:
        features: [n, E] of a model trained on another target; standardised here, over the
          materials that have this target's label.

    Raises:
        GroupingError: features of another number of materials, not finite, or all the same.
    """
    if len(features) != len(column.values) or not np.all(np.isfinite(features)):
        raise GroupingError(
            f"features for target '{column.spec.name}' are of shape {features.shape} for "
            f"{len(column.values)} materials, or not finite"
        )
    rows = np.flatnonzero(column.labelled)
    x = np.asarray(features, np.float64)[rows]  # [m, E]
    x = x[:, x.std(0) > 0]
    if not x.shape[1]:
        raise GroupingError(
            f"a model's features are the same for all materials with '{column.spec.name}': train "
            "it longer (config.grouping.epochs)"
        )
    x = (x - x.mean(0)) / x.std(0)
    search = NearestNeighbors(n_neighbors=min(neighbours, len(x) - 1), algorithm="brute").fit(x)
    near = search.kneighbors(return_distance=False)  # [m, k], of the others
    classes = column.spec.num_outputs if column.is_class else 0
    return Transfer(rows, column.values[rows], near, classes)


def compare_transfer(
    features: Mapping[str, np.ndarray],
    columns: Sequence[Column],
    *,
    permutations: int,
    seed: int,
    neighbours: int = 5,
    counts: np.ndarray | None = None,
) -> tuple[Similarity, np.ndarray | None]:
    """How well the features of each target's model predict each other target.

    `directed` holds skills from source (row) to target (column), the diagonal a model's features
    on its own target; `values` the mean of both directions. The p-value of a pair: that mean,
    each direction's labels permuted under the neighbours that they have.

    Args:
        features: {target: [n, E]} of models trained on one target each.
        counts: [R, n] resamples; models, neighbours and predictions stay, the materials over
          which skill is measured change.

    Returns:
        (similarity, values in the resamples [R, T, T] or None).
    """
    find_overlap(columns)
    size = len(columns)
    found = [[transfer(features[a.spec.name], b, neighbours) for b in columns] for a in columns]
    directed = np.array([[t.skill() for t in row] for row in found])  # [T, T]
    p = np.zeros((size, size))
    for i, j in target_pairs(size):
        if not permutations:
            break
        there, back = found[i][j], found[j][i]
        p[i, j] = p[j, i] = order_p_value(
            functools.partial(_mean_permuted, there, back), [len(there.rows), len(back.rows)],
            permutations, np.random.default_rng([seed, 1, i, j]),
        )
    resampled = None
    if counts is not None:
        skills = np.array(
            [[[t.skill(c[t.rows]) for t in row] for row in found] for c in counts]
        )  # [R, T, T]
        resampled = with_diagonal((skills + skills.transpose(0, 2, 1)) / 2, 1.0)
    similarity = Similarity(
        with_diagonal((directed + directed.T) / 2, 1.0),
        p=p if permutations else None,
        p_adjusted=adjust(p) if permutations else None,
        directed=directed,
    )
    return similarity, resampled


def _mean_permuted(
    there: Transfer, back: Transfer, orders_there: np.ndarray, orders_back: np.ndarray
) -> np.ndarray:
    """[N] mean skill of both directions, the labels of each in its own orders [N, m]."""
    return (there.permuted(orders_there) + back.permuted(orders_back)) / 2
