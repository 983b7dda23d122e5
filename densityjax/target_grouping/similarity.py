"""How alike two targets are, over the materials that have both labels, and how surely.

Every similarity lies in [0, 1]. Resamples and permutations are seeded: the same labels give the
same numbers. Pairs are of regression targets (values) or class targets (indices), in any mixture.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import false_discovery_control, rankdata

from densityjax.targets import TargetSpec

MEASURES = ("pearson", "spearman", "distance_correlation", "mutual_information")
# Both compare materials with each other, and would take two copies of one for dependence.
HALF_SAMPLED = ("distance_correlation", "mutual_information")
MIN_SHARED = 20  # materials with both labels
LOW_OVERLAP = 0.30  # of the materials with either label
_CHUNK = 4_000_000  # permuted indices held at once


class GroupingError(ValueError):
    """Targets that cannot be compared or grouped; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Column:
    """Labels of one target.

    Attributes:
        spec: the target.
        values: [n] intensive labels, NaN = missing; classes: int index, -1 = missing.
    """

    spec: TargetSpec
    values: np.ndarray

    @property
    def is_class(self) -> bool:
        """Whether the values are indices of classes."""
        return self.spec.kind == "classification"

    @property
    def labelled(self) -> np.ndarray:
        """[n] bool."""
        return self.values >= 0 if self.is_class else np.isfinite(self.values)

    def take(self, rows: np.ndarray) -> "Column":
        """The same target at some materials."""
        return Column(self.spec, self.values[rows])


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Materials that targets share.

    Attributes:
        shared: [T, T] int, materials with both labels; on the diagonal with the one.
        fraction: [T, T], `shared` over the materials with either label.
        low: [T, T] bool, `fraction` under LOW_OVERLAP.
    """

    shared: np.ndarray
    fraction: np.ndarray
    low: np.ndarray


@dataclasses.dataclass(frozen=True)
class Similarity:
    """One measure for all pairs of targets.

    Attributes:
        values: [T, T] in [0, 1], symmetric, 1 on the diagonal.
        signed: [T, T] with the sign of the dependence where it has one, NaN elsewhere; None for
          measures without a sign.
        p: [T, T] p-values of no dependence, 0 on the diagonal; None where not tested.
        p_adjusted: [T, T], after Benjamini and Hochberg over the pairs.
        directed: [T, T] from source (row) to target (column), of measures that have a direction.
    """

    values: np.ndarray
    signed: np.ndarray | None = None
    p: np.ndarray | None = None
    p_adjusted: np.ndarray | None = None
    directed: np.ndarray | None = None


def find_overlap(columns: Sequence[Column]) -> Overlap:
    """Counts the materials that targets share, and checks that there is enough to compare.

    Raises:
        GroupingError: a target has no two different labels, alone or among the materials that it
          shares with another; or a pair shares fewer than MIN_SHARED.
    """
    names = [column.spec.name for column in columns]
    labelled = np.stack([column.labelled for column in columns])  # [T, n]
    for column, mask in zip(columns, labelled, strict=True):
        if not _varies(column.values[mask]):
            raise GroupingError(
                f"target '{column.spec.name}' has {mask.sum()} labels and no two different ones in "
                "the training folds: remove it from config.targets"
            )
    shared = labelled.astype(int) @ labelled.T.astype(int)  # [T, T]
    for i, j in _pairs(len(columns)):
        if shared[i, j] < MIN_SHARED:
            raise GroupingError(
                f"targets '{names[i]}' and '{names[j]}' share {shared[i, j]} labelled materials in "
                f"the training folds, and a comparison needs {MIN_SHARED}: leave one of them out "
                "of config.targets, or use a dataset with more labels of both"
            )
        for one, other in ((i, j), (j, i)):
            if not _varies(columns[one].values[labelled[i] & labelled[j]]):
                raise GroupingError(
                    f"target '{names[one]}' has no two different labels among the {shared[i, j]} "
                    f"materials that it shares with '{names[other]}' in the training folds: leave "
                    "one of them out of config.targets"
                )
    own = np.diag(shared)
    fraction = shared / (own[:, None] + own[None, :] - shared)
    return Overlap(shared, fraction, fraction < LOW_OVERLAP)


def compare_labels(
    columns: Sequence[Column],
    measure: str,
    *,
    permutations: int,
    seed: int,
    neighbours: int = 3,
    max_materials: int = 2000,
) -> Similarity:
    """Similarity of all pairs of targets, with permutation p-values.

    | measure | regression | regression and class | classes |
    |---|---|---|---|
    | pearson | abs r | correlation ratio eta | V |
    | spearman | abs rho | eta of ranks (Kruskal and Wallis, root of epsilon squared) | V |
    | distance_correlation | abs(x - y) | both metrics | 0 equal, 1 different |
    | mutual_information | Kraskov 2004 | Ross 2014 | plug-in |

    V: Cramér's, corrected for bias (Bergsma 2013). Distance correlation (Székely 2007): root of
    the bias-corrected square (Székely and Rizzo 2014), 0 where that is negative. The plain
    (V-statistic) form grows as materials get fewer, so that pairs that share less would look more
    alike. Mutual information I in nats: Linfoot's (1957) informational correlation
    sqrt(1 - exp(-2 I)), which for two normal variables is abs r.

    The p-value of a pair is (1 + number of permutations at least as dependent) / (1 + N), one
    target's labels being permuted over the materials that have both. Materials of one chemical
    system are alike, which the permutation does not know: p-values are somewhat too small.

    Args:
        columns: T targets, of the same n materials.
        measure: one of MEASURES.
        permutations: N; 0 leaves the p-values out.
        neighbours: k of mutual information.
        max_materials: that distance correlation and mutual information see, the same random ones
          for all resamples of a pair.

    Raises:
        GroupingError: as `find_overlap`, which the caller need not have called.
    """
    find_overlap(columns)
    size = len(columns)
    values, p = np.eye(size), np.zeros((size, size))
    signed = np.full((size, size), np.nan)
    for i, j in _pairs(size):
        pair, rows = _pair(columns, i, j, measure, seed, neighbours, max_materials)
        raw = pair.raw(np.ones(len(rows)))
        values[i, j] = values[j, i] = pair.similarity(raw)
        if not (columns[i].is_class or columns[j].is_class):
            signed[i, j] = signed[j, i] = raw
        if permutations:
            rng = np.random.default_rng([seed, 1, i, j])
            p[i, j] = p[j, i] = _p_value(pair, raw, permutations, len(rows), rng)
    np.fill_diagonal(signed, 1.0)
    return Similarity(
        values,
        signed if measure in ("pearson", "spearman") else None,
        p if permutations else None,
        adjust(p) if permutations else None,
    )


def compare_resamples(
    columns: Sequence[Column],
    measure: str,
    counts: np.ndarray,
    *,
    seed: int,
    neighbours: int = 3,
    max_materials: int = 2000,
) -> np.ndarray:
    """Similarities in resamples of the materials, with the arguments of `compare_labels`.

    A pair of which one target has no two different labels in a resample is not alike there (0).

    Args:
        counts: [R, n] how often each material is in each resample, 0 or 1 for measures in
          HALF_SAMPLED.

    Returns:
        [R, T, T] in [0, 1].
    """
    if measure in HALF_SAMPLED and np.max(counts) > 1:
        raise ValueError(f"{measure} takes a copy of a material for dependence")
    values = np.tile(np.eye(len(columns)), (len(counts), 1, 1))  # [R, T, T]
    for i, j in _pairs(len(columns)):
        pair, rows = _pair(columns, i, j, measure, seed, neighbours, max_materials)
        raw = np.array([pair.raw(c) for c in counts[:, rows]])  # [R]
        values[:, i, j] = values[:, j, i] = [pair.similarity(r) for r in raw]
    return values


def resample_systems(systems: np.ndarray, resamples: int, seed: int, half: bool) -> np.ndarray:
    """Resamples chemical systems, the independent units, with all their materials.

    Args:
        systems: [n] str.
        half: half of the systems without replacement, which to first order has the variance of
          the bootstrap and no copies; else the bootstrap, as many systems with replacement.

    Returns:
        [resamples, n] int, how often each material is in each.
    """
    names, inverse = np.unique(systems, return_inverse=True)
    rng = np.random.default_rng([seed, 2])
    counts = np.zeros((resamples, len(names)), int)
    for row in counts:
        if half:
            row[rng.choice(len(names), max(1, len(names) // 2), replace=False)] = 1
        else:
            row += np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
    return counts[:, inverse]


# Pairs: what a measure needs to be evaluated many times.


class _Pair(Protocol):
    """Two targets, a and b, at the materials that have both labels."""

    def raw(self, counts: np.ndarray) -> float:
        """Dependence with each material counted so often ([n]); may be signed or negative."""

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        """[N] dependence of b's values in each of these orders ([N, n]) on a's."""

    def strength(self, raw: np.ndarray) -> np.ndarray:
        """What the test compares: larger is more dependent."""

    def similarity(self, raw: float) -> float:
        """The value in [0, 1]."""


def _pair(
    columns: Sequence[Column], i: int, j: int, measure: str, seed: int, neighbours: int, most: int
) -> tuple[_Pair, np.ndarray]:
    """A pair, and the rows it holds. A class target comes first, a regression target second."""
    rows = np.flatnonzero(columns[i].labelled & columns[j].labelled)
    if measure in HALF_SAMPLED and len(rows) > most:
        draw = np.random.default_rng([seed, 3, i, j])
        rows = np.sort(draw.choice(rows, most, replace=False))
    a, b = sorted((columns[i].take(rows), columns[j].take(rows)), key=lambda c: not c.is_class)
    rng = np.random.default_rng([seed, 4, i, j])
    if measure == "distance_correlation":
        return _Distances(a, b), rows
    if measure == "mutual_information":
        return _Information(a, b, neighbours, rng), rows
    if measure not in MEASURES:
        raise GroupingError(f"unknown similarity '{measure}'; of labels: {', '.join(MEASURES)}")
    if a.is_class and b.is_class:
        return _CramersV(a, b), rows
    return _Correlation(a, b, ranks=measure == "spearman"), rows


class _Correlation:
    """Pearson's r, or the correlation ratio of values b by class a; of values or ranks."""

    def __init__(self, a: Column, b: Column, ranks: bool):
        self._ranks = ranks
        self._y = _standard(b.values)  # [n]
        self._by_class = a.is_class
        self._x = a.values if a.is_class else _standard(a.values)  # [n]

    def _prepared(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) with mean 0 (x: or class indices), each material as often as counted."""
        rows = np.repeat(np.arange(len(counts)), counts.astype(int))
        x, y = self._x[rows], self._y[rows]
        if self._ranks:
            x, y = x if self._by_class else rankdata(x), rankdata(y)
        return x if self._by_class else x - x.mean(), y - y.mean()

    def raw(self, counts: np.ndarray) -> float:
        x, y = self._prepared(counts)
        if not (_varies(x) and _varies(y)):
            return 0.0
        return float(self._dependence(x, y[None])[0])

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        x, y = self._prepared(np.ones(orders.shape[1]))
        return self._dependence(x, y[orders])

    def _dependence(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[N] of x [n] and y [N, n], both of mean 0."""
        if not self._by_class:
            return np.clip(y @ x / (np.linalg.norm(x) * np.linalg.norm(y[0])), -1.0, 1.0)
        classes, index, size = np.unique(x, return_inverse=True, return_counts=True)
        sums = y @ np.eye(len(classes))[index]  # [N, K]
        return np.sqrt(np.clip((sums**2 / size).sum(1) / np.sum(y[0] ** 2), 0.0, 1.0))

    def strength(self, raw: np.ndarray) -> np.ndarray:
        return np.abs(raw)

    def similarity(self, raw: float) -> float:
        return float(abs(raw))


class _CramersV:
    """Cramér's V squared, corrected for bias."""

    def __init__(self, a: Column, b: Column):
        self._a, self._b = a.values, b.values

    def raw(self, counts: np.ndarray) -> float:
        return float(_bergsma(_table(self._a, self._b, counts))[0])

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        return _bergsma(_tables(self._a, self._b, orders))

    def strength(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def similarity(self, raw: float) -> float:
        return float(np.sqrt(np.clip(raw, 0.0, 1.0)))


class _Distances:
    """Distance correlation squared, corrected for bias (Székely and Rizzo 2014, R*)."""

    def __init__(self, a: Column, b: Column):
        self._classes, self._y = b.is_class, b.values if b.is_class else _standard(b.values)
        self._a, self._b = _distances(a), _distances(b)  # [n, n]
        pairs = ((self._a, self._b), (self._a, self._a), (self._b, self._b))
        self._products = tuple((x * y, x, y) for x, y in pairs)

    def raw(self, counts: np.ndarray) -> float:
        if counts.sum() < 4:  # the correction divides by n - 3
            return 0.0
        ab, aa, bb = (
            _u_product(counts @ xy @ counts, x @ counts, y @ counts, counts)
            for xy, x, y in self._products
        )
        return float(ab / np.sqrt(aa * bb)) if aa > 0 and bb > 0 else 0.0

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        # Of the sum over pairs only a_ij b_ij moves with the order, and the sum of a_i. b_i.
        size = orders.shape[1]
        ones = np.ones(size)
        rows_a, rows_b = self._a.sum(1), self._b.sum(1)
        aa, bb = (_u_product(np.sum(x * x), x.sum(1), x.sum(1), ones) for x in (self._a, self._b))
        products, moved = np.empty(len(orders)), np.empty((size, size))
        for row, order in enumerate(orders):
            # Distances of the permuted labels, which is faster than permuting the distances.
            y = self._y[order]
            np.subtract(y[:, None], y, out=moved)
            np.not_equal(moved, 0, out=moved) if self._classes else np.abs(moved, out=moved)
            # Not vdot: BLAS would start its threads for each of these small sums, 15 times slower.
            pairs = np.einsum("ij,ij->", self._a, moved)
            products[row] = _u_product(pairs, rows_a, rows_b[order], ones)
        return products / np.sqrt(aa * bb)

    def strength(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def similarity(self, raw: float) -> float:
        return float(np.sqrt(np.clip(raw, 0.0, 1.0)))


class _Information:
    """Mutual information in nats, by k nearest neighbours where a target has values."""

    def __init__(self, a: Column, b: Column, neighbours: int, rng: np.random.Generator):
        self._k = neighbours
        self._classes = (a.is_class, b.is_class)
        # Equal values get a tiny random order, as the estimators assume that there are none.
        noise = 1e-10 * rng.standard_normal((2, len(a.values)))
        self._a, self._b = (
            c.values if c.is_class else _standard(c.values) + e
            for c, e in zip((a, b), noise, strict=True)
        )

    def raw(self, counts: np.ndarray) -> float:
        rows = np.flatnonzero(counts)
        a, b = (
            labels[rows] if is_class else _standard(labels[rows])
            for labels, is_class in zip((self._a, self._b), self._classes, strict=True)
        )
        if not (_varies(a) and _varies(b)):
            return 0.0
        return float(self._evaluate(a, b, np.arange(len(rows))[None])[0])

    def permuted(self, orders: np.ndarray) -> np.ndarray:
        return self._evaluate(self._a, self._b, orders)

    def _evaluate(self, a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
        if all(self._classes):
            return _plug_in_information(_tables(a, b, orders))
        if any(self._classes):
            # The classes are permuted, so that the values stay sorted.
            inverse = np.argsort(orders, axis=1)
            return _ross(b, a, inverse, self._k)
        return _kraskov(a, b, orders, self._k)

    def strength(self, raw: np.ndarray) -> np.ndarray:
        return raw

    def similarity(self, raw: float) -> float:
        return float(np.sqrt(-np.expm1(-2 * max(raw, 0.0))))


def _distances(column: Column) -> np.ndarray:
    """[n, n] between labels: absolute difference, or 0 for the same class and 1 for others."""
    values = column.values if column.is_class else _standard(column.values)
    difference = values[:, None] - values[None, :]
    return (difference != 0).astype(float) if column.is_class else np.abs(difference)


def _u_product(pairs: float, rows_a: np.ndarray, rows_b: np.ndarray, counts: np.ndarray) -> float:
    """Inner product of U-centred distance matrices, from sums of the distances themselves.

    Args:
        pairs: sum of a_ij b_ij; rows_a, rows_b: [n] sums of a_ij and b_ij over j.
        counts: [n] 0 or 1, the materials that the sums are over.
    """
    n = counts.sum()
    cross = np.sum(counts * rows_a * rows_b)
    total = (counts @ rows_a) * (counts @ rows_b)
    return pairs - 2 * cross / (n - 2) + total / ((n - 1) * (n - 2))


def _bergsma(tables: np.ndarray) -> np.ndarray:
    """[N] bias-corrected V squared (may be negative) of contingency tables [N, K, L]."""
    n = tables.sum((1, 2))
    rows, columns = tables.sum(2), tables.sum(1)  # [N, K], [N, L]
    expected = rows[:, :, None] * columns[:, None, :] / n[:, None, None]
    chi2 = (np.square(tables - expected) / np.where(expected > 0, expected, 1)).sum((1, 2))
    r, c = (rows > 0).sum(1), (columns > 0).sum(1)
    phi2 = chi2 / n - (r - 1) * (c - 1) / (n - 1)
    r, c = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    smaller = np.minimum(r, c) - 1
    return np.where(smaller > 0, phi2 / np.where(smaller > 0, smaller, 1), 0.0)


def _plug_in_information(tables: np.ndarray) -> np.ndarray:
    """[N] mutual information of the frequencies in contingency tables [N, K, L]."""
    joint = tables / tables.sum((1, 2), keepdims=True)
    product = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    ratio = np.where(joint > 0, joint, 1) / np.where(joint > 0, product, 1)
    return (joint * np.log(ratio)).sum((1, 2))


def _table(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[1, K, L] contingency table of class indices [n], each material counted so often."""
    shape = (a.max() + 1, b.max() + 1)
    return np.bincount(a * shape[1] + b, counts, shape[0] * shape[1]).reshape(1, *shape)


def _tables(a: np.ndarray, b: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """[N, K, L] contingency tables of a and b in each order [N, n]."""
    shape = (len(orders), a.max() + 1, b.max() + 1)
    cell = (np.arange(shape[0])[:, None] * shape[1] + a) * shape[2] + b[orders]  # [N, n]
    return np.bincount(cell.ravel(), minlength=np.prod(shape)).reshape(shape).astype(float)


def _kraskov(x: np.ndarray, y: np.ndarray, orders: np.ndarray, k: int) -> np.ndarray:
    """[N] mutual information of x and y in each order (Kraskov 2004, first estimator)."""
    n = len(x)
    k = min(k, n - 1)
    psi = digamma(np.arange(1, n + 1))  # [n] of 1 .. n
    sorted_x, sorted_y = np.sort(x), np.sort(y)
    result = np.empty(len(orders))
    for row, order in enumerate(orders):
        points = np.stack([x, y[order]], axis=1)  # [n, 2]
        tree = cKDTree(points, balanced_tree=False)  # faster to build for points in no order
        distance = tree.query(points, k=[k + 1], p=np.inf)[0][:, 0]  # [n]
        near = _near(sorted_x, points[:, 0], distance), _near(sorted_y, points[:, 1], distance)
        result[row] = psi[-1] + psi[k - 1] - np.mean(psi[near[0] - 1] + psi[near[1] - 1])
    return result


def _ross(x: np.ndarray, classes: np.ndarray, orders: np.ndarray, k: int) -> np.ndarray:
    """[N] mutual information of values x and classes in each order (Ross 2014).

    Materials alone in their class tell nothing of it and are left out, as in the paper.
    """
    by_x = np.argsort(x)
    x = x[by_x]
    result = np.empty(len(orders))
    for row, order in enumerate(orders):
        c = classes[order][by_x]
        distance, terms = np.zeros(len(x)), np.zeros(len(x))  # [n]
        used = np.ones(len(x), bool)
        for name in np.unique(c):
            members = np.flatnonzero(c == name)
            if len(members) == 1:
                used[members] = False
                continue
            own = min(k, len(members) - 1)
            distance[members] = _sorted_neighbour(x[members], own)
            terms[members] = digamma(own) - digamma(len(members))
        near = _near(x[used], x[used], distance[used])
        n = np.sum(used)
        result[row] = digamma(n) + np.mean(terms[used] - digamma(near)) if n else 0.0
    return result


def _sorted_neighbour(x: np.ndarray, k: int) -> np.ndarray:
    """[n] distance of each of these ascending values to its k-th nearest other."""
    n = len(x)
    start = np.arange(n)[:, None] - np.arange(k + 1)  # [n, k + 1] of the windows that hold each
    low, high = np.clip(start, 0, n - 1), np.clip(start + k, 0, n - 1)
    reach = np.maximum(x[:, None] - x[low], x[high] - x[:, None])
    return np.where((start >= 0) & (start + k < n), reach, np.inf).min(1)


def _near(ascending: np.ndarray, x: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """[n] how many values lie nearer to each of x than its distance, itself included."""
    # Less by more than rounding: the neighbour that gave the distance must not count.
    radius = distance - 8 * np.finfo(float).eps * np.maximum(1.0, np.abs(x))
    above = np.searchsorted(ascending, x + radius, side="right")
    return np.maximum(above - np.searchsorted(ascending, x - radius, side="left"), 1)


# Similarities that use a model.


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
    from sklearn.neighbors import NearestNeighbors  # takes a second, which labels do not wait for

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
    for i, j in _pairs(size):
        if not permutations:
            break
        null = np.zeros(permutations)
        for source, target in ((i, j), (j, i)):
            rng = np.random.default_rng([seed, 1, source, target])
            chunks = _orders(rng, len(found[source][target].rows), permutations)
            null += np.concatenate([found[source][target].permuted(c) for c in chunks]) / 2
        p[i, j] = p[j, i] = _share((directed[i, j] + directed[j, i]) / 2, null)
    resampled = None
    if counts is not None:
        skills = np.array(
            [[[t.skill(c[t.rows]) for t in row] for row in found] for c in counts]
        )  # [R, T, T]
        resampled = _with_unit_diagonal((skills + skills.transpose(0, 2, 1)) / 2)
    similarity = Similarity(
        _with_unit_diagonal((directed + directed.T) / 2),
        p=p if permutations else None,
        p_adjusted=adjust(p) if permutations else None,
        directed=directed,
    )
    return similarity, resampled


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
    p = np.zeros_like(signed)
    if permutations:
        epochs = len(series)
        if 2**epochs <= permutations + 1:  # the first is the observation, which _share adds
            flips = np.array(list(itertools.product((1, -1), repeat=epochs)))[1:]
        else:
            flips = np.random.default_rng([seed, 5]).choice((1, -1), (permutations, epochs))
        null = np.tensordot(flips / epochs, symmetric, axes=1)  # [N, T, T]
        for i, j in _pairs(len(signed)):
            p[i, j] = p[j, i] = _share(symmetric.mean(0)[i, j], null[:, i, j])
    return Similarity(
        _with_unit_diagonal(np.clip(signed, 0.0, 1.0)),
        signed=signed,
        p=p if permutations else None,
        p_adjusted=adjust(p) if permutations else None,
        directed=directed,
    )


# Tests.


def adjust(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's (1995) adjustment over the pairs of a symmetric [T, T] matrix."""
    adjusted = np.zeros_like(p)
    rows, columns = np.triu_indices(len(p), 1)
    if len(rows):
        adjusted[rows, columns] = false_discovery_control(p[rows, columns])
    return adjusted + adjusted.T


def _p_value(pair: _Pair, raw: float, permutations: int, n: int, rng: np.random.Generator) -> float:
    null = [pair.strength(pair.permuted(orders)) for orders in _orders(rng, n, permutations)]
    return _share(float(pair.strength(np.asarray(raw))), np.concatenate(null))


def _share(observed: float, null: np.ndarray) -> float:
    """(1 + number at least as large) / (1 + N); what differs by rounding is equal."""
    slack = 1e-12 * max(1.0, abs(observed))
    return float((1 + np.sum(null >= observed - slack)) / (1 + len(null)))


def _orders(rng: np.random.Generator, n: int, permutations: int) -> Iterator[np.ndarray]:
    """Random orders [chunk, n] of n materials, `permutations` in all."""
    while permutations > 0:
        size = min(permutations, max(1, _CHUNK // n))
        yield rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
        permutations -= size


def _pairs(size: int) -> Iterator[tuple[int, int]]:
    return itertools.combinations(range(size), 2)


def _varies(values: np.ndarray) -> bool:
    return values.size > 0 and bool(np.any(values != values[0]))


def _standard(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 and variance 1, so that sums do not lose digits."""
    values = np.asarray(values, np.float64)
    return (values - values.mean()) / (values.std() or 1.0)


def _with_unit_diagonal(values: np.ndarray) -> np.ndarray:
    """[..., T, T] with 1 for each target's similarity to itself."""
    size = values.shape[-1]
    return np.where(np.eye(size, dtype=bool), 1.0, values)
