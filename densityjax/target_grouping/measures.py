"""Measures of dependence between two targets, one function each.

Each takes two columns a and b of the same n materials and orders [N, n], and returns [N]: how much
a's labels depend on b's, b's being put in each order. A class target comes before a regression
target. The result is a square: its root compares with an absolute correlation. It may be below 0
where a bias is corrected.

| measure | regression | regression and class | classes |
|---|---|---|---|
| pearson | r | correlation ratio eta | V |
| spearman | rho | eta of ranks (Kruskal and Wallis, epsilon squared) | V |
| distance_correlation | abs(x - y) | both metrics | 0 equal, 1 different |
| mutual_information | Kraskov 2004 | Ross 2014 | plug-in |
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.metrics import mutual_info_score

from densityjax.target_grouping.columns import Column, GroupingError

Measure = Callable[[Column, Column, np.ndarray], np.ndarray]

MEASURES = ("pearson", "spearman", "distance_correlation", "mutual_information")
# Both compare materials with each other, and would take two copies of one for dependence.
HALF_SAMPLED = ("distance_correlation", "mutual_information")


def get_measure(name: str, neighbours: int, seed: int) -> Measure:
    """The measure of this name.

    Args:
        neighbours: k of mutual information.
        seed: of the order that mutual information gives to equal labels.

    Raises:
        GroupingError: the name is unknown.
    """
    if name == "mutual_information":
        return lambda a, b, orders: mutual_information(a, b, orders, neighbours, seed)
    known = {"pearson": pearson, "spearman": spearman, "distance_correlation": distance_correlation}
    if name not in known:
        raise GroupingError(f"unknown similarity '{name}'; of labels: {', '.join(MEASURES)}")
    return known[name]


def pearson(a: Column, b: Column, orders: np.ndarray) -> np.ndarray:
    """[N] squares of Pearson's r, of the correlation ratio of b by a's classes, or of V."""
    if a.is_class and b.is_class:
        return cramers_v(a, b, orders)
    moved = _standard(b.values)[orders]  # [N, n]
    if not a.is_class:
        return np.square(correlation(_standard(a.values), moved))
    classes, index, size = np.unique(a.values, return_inverse=True, return_counts=True)
    sums = moved @ np.eye(len(classes))[index]  # [N, K]
    return np.clip((sums**2 / size).sum(1) / np.sum(moved[0] ** 2), 0.0, 1.0)


def spearman(a: Column, b: Column, orders: np.ndarray) -> np.ndarray:
    """[N] as `pearson`, of ranks."""
    return pearson(ranked(a), ranked(b), orders)


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[N] Pearson's r, with its sign, of x [n] and the rows of y [N, n], which hold the same."""
    x, y = x - x.mean(), y - y[0].mean()
    return np.clip(y @ x / (np.linalg.norm(x) * np.linalg.norm(y[0])), -1.0, 1.0)


def ranked(column: Column) -> Column:
    """A regression target's ranks; equal labels have the mean of theirs. Classes stay."""
    return column if column.is_class else Column(column.spec, rankdata(column.values))


def cramers_v(a: Column, b: Column, orders: np.ndarray) -> np.ndarray:
    """[N] squares of Cramér's V, corrected for bias (Bergsma 2013)."""
    tables = _contingency(a.values, b.values, orders)  # [N, K, L]
    n = tables.sum((1, 2))
    rows, columns = tables.sum(2), tables.sum(1)  # [N, K], [N, L]
    expected = rows[:, :, None] * columns[:, None, :] / n[:, None, None]
    chi2 = (np.square(tables - expected) / np.where(expected > 0, expected, 1)).sum((1, 2))
    r, c = (rows > 0).sum(1), (columns > 0).sum(1)
    phi2 = chi2 / n - (r - 1) * (c - 1) / (n - 1)
    r, c = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    smaller = np.minimum(r, c) - 1
    return np.where(smaller > 0, phi2 / np.where(smaller > 0, smaller, 1), 0.0)


def distance_correlation(a: Column, b: Column, orders: np.ndarray) -> np.ndarray:
    """[N] squares of distance correlation (Székely 2007), corrected for bias (R*).

    The corrected form is that of Székely and Rizzo 2014. The plain (V-statistic) form grows as
    materials get fewer, so that targets that share less would look more alike.
    """
    size = len(a.values)
    if size < 4:  # the correction divides by n - 3
        return np.zeros(len(orders))
    y = b.values if b.is_class else _standard(b.values)  # [n]
    distances_a, distances_b = _distances(a), _distances(b)  # [n, n]
    rows_a, rows_b = distances_a.sum(1), distances_b.sum(1)  # [n]
    aa = _u_product(np.sum(distances_a**2), rows_a, rows_a)
    bb = _u_product(np.sum(distances_b**2), rows_b, rows_b)
    if aa <= 0 or bb <= 0:
        return np.zeros(len(orders))
    products, moved = np.empty(len(orders)), np.empty((size, size))
    # An order moves only the sum of a_ij b_ij and that of the products of row sums.
    for row, order in enumerate(orders):
        # Distances of the permuted labels, which is faster than permuting the distances.
        np.subtract(y[order][:, None], y[order], out=moved)
        np.not_equal(moved, 0, out=moved) if b.is_class else np.abs(moved, out=moved)
        # Not vdot: BLAS would start its threads for each of these small sums, 15 times slower.
        joint = np.einsum("ij,ij->", distances_a, moved)
        products[row] = _u_product(joint, rows_a, rows_b[order])
    return products / np.sqrt(aa * bb)


def mutual_information(
    a: Column, b: Column, orders: np.ndarray, neighbours: int, seed: int
) -> np.ndarray:
    """[N] squares 1 - exp(-2 I) of Linfoot's (1957) informational correlation; I >= 0 in nats.

    Its root is abs r for two normal variables. scikit-learn estimates I, by Kraskov's first
    estimator or Ross's from the k nearest neighbours. It adds 1e-10 standard deviations of noise to
    values, which orders equal ones at random, and it raises estimates below 0 to 0.

    Args:
        neighbours: k, of the other labels at most.
        seed: of the noise, 0 to 2^32 - 1.
    """
    labels_a, labels_b = (c.values if c.is_class else _standard(c.values) for c in (a, b))  # [n]
    moved = labels_b[orders].T  # [n, N], a feature for each order
    options = {"n_neighbors": min(neighbours, len(a.values) - 1), "random_state": seed}
    if a.is_class and b.is_class:
        nats = np.array([mutual_info_score(labels_a, labels) for labels in moved.T])
    elif not a.is_class:
        nats = mutual_info_regression(moved, labels_a, **options)
    elif np.unique(labels_a, return_counts=True)[1].max() > 1:
        nats = mutual_info_classif(moved, labels_a, **options)
    else:  # materials alone in their class tell nothing of it
        nats = np.zeros(len(orders))
    return -np.expm1(-2 * nats)


def _distances(column: Column) -> np.ndarray:
    """[n, n] between labels: absolute difference, or 0 for the same class and 1 for others."""
    values = column.values if column.is_class else _standard(column.values)
    difference = values[:, None] - values[None, :]
    return (difference != 0).astype(float) if column.is_class else np.abs(difference)


def _u_product(joint: float, rows_a: np.ndarray, rows_b: np.ndarray) -> float:
    """Inner product of U-centred distance matrices, from sums of the distances themselves.

    Args:
        joint: sum of a_ij b_ij.
        rows_a, rows_b: [n] sums of a_ij and b_ij over j.
    """
    n = len(rows_a)
    cross = np.sum(rows_a * rows_b)
    total = rows_a.sum() * rows_b.sum()
    return joint - 2 * cross / (n - 2) + total / ((n - 1) * (n - 2))


def _contingency(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """[N, K, L] contingency tables of class indices a [n] and b [n] in each order [N, n]."""
    shape = (len(orders), a.max() + 1, b.max() + 1)
    cell = (np.arange(shape[0])[:, None] * shape[1] + a) * shape[2] + b[orders]  # [N, n]
    return np.bincount(cell.ravel(), minlength=np.prod(shape)).reshape(shape).astype(float)


def _standard(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 and variance 1, so that sums do not lose digits."""
    values = np.asarray(values, np.float64)
    return (values - values.mean()) / (values.std() or 1.0)
