"""How alike targets are by their labels, over the materials that have both, and how surely.

Targets are of regression (values) or of classes (indices), in any mixture.
"""

import functools
from collections.abc import Sequence

import numpy as np

from densityjax.target_grouping.columns import Column, find_overlap, target_pairs
from densityjax.target_grouping.measures import (
    HALF_SAMPLED,
    Measure,
    correlation,
    get_measure,
    ranked,
)
from densityjax.target_grouping.permutation import adjust, order_p_value
from densityjax.target_grouping.similarity import Similarity


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

    A similarity is the root of a measure's square (see `measures`), 0 where that is below 0.

    The p-value of a pair is (1 + number of permutations at least as dependent) / (1 + N), one
    target's labels being permuted over the materials that have both. Materials of one chemical
    system are alike, which the permutation does not know: p-values are somewhat too small. Where
    the estimate of mutual information is 0 the p-value is 1.

    Args:
        columns: T targets, of the same n materials.
        measure: one of `measures.MEASURES`.
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
    np.fill_diagonal(signed, 1.0)
    for i, j in target_pairs(size):
        rows = _shared_rows(columns, i, j, measure, seed, max_materials)
        a, b = _class_first(columns[i].take(rows), columns[j].take(rows))
        compare = get_measure(measure, neighbours, _noise_seed(seed, i, j))
        values[i, j] = values[j, i] = _similarity(compare, a, b)
        if not (a.is_class or b.is_class):
            signed[i, j] = signed[j, i] = np.copysign(values[i, j], _sign(a, b, measure))
        if permutations:
            rng = np.random.default_rng([seed, 1, i, j])
            statistic = functools.partial(compare, a, b)
            p[i, j] = p[j, i] = order_p_value(statistic, [len(rows)], permutations, rng)
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
          `measures.HALF_SAMPLED`.

    Returns:
        [R, T, T] in [0, 1].
    """
    if measure in HALF_SAMPLED and np.max(counts) > 1:
        raise ValueError(f"{measure} takes a copy of a material for dependence")
    values = np.tile(np.eye(len(columns)), (len(counts), 1, 1))  # [R, T, T]
    for i, j in target_pairs(len(columns)):
        rows = _shared_rows(columns, i, j, measure, seed, max_materials)
        compare = get_measure(measure, neighbours, _noise_seed(seed, i, j))
        for resample, count in enumerate(counts[:, rows]):
            drawn = np.repeat(rows, count)
            a, b = _class_first(columns[i].take(drawn), columns[j].take(drawn))
            values[resample, i, j] = values[resample, j, i] = _similarity(compare, a, b)
    return values


def _shared_rows(
    columns: Sequence[Column], i: int, j: int, measure: str, seed: int, most: int
) -> np.ndarray:
    """Rows of the materials with both labels, ascending; `most` random ones where n^2 counts."""
    rows = np.flatnonzero(columns[i].labelled & columns[j].labelled)
    if measure in HALF_SAMPLED and len(rows) > most:
        draw = np.random.default_rng([seed, 3, i, j])
        rows = np.sort(draw.choice(rows, most, replace=False))
    return rows


def _class_first(a: Column, b: Column) -> tuple[Column, Column]:
    """The two, a class target before a regression target."""
    return (b, a) if b.is_class and not a.is_class else (a, b)


def _similarity(compare: Measure, a: Column, b: Column) -> float:
    """The measure of two columns as they are, in [0, 1]; 0 where one of them is constant."""
    if not (a.varies and b.varies):
        return 0.0
    square = compare(a, b, np.arange(len(a.values))[None])[0]
    return float(np.sqrt(np.clip(square, 0.0, 1.0)))


def _sign(a: Column, b: Column, measure: str) -> float:
    """A number with the sign of the correlation of two regression targets."""
    if measure == "spearman":
        a, b = ranked(a), ranked(b)
    return float(correlation(a.values, b.values[None])[0])


def _noise_seed(seed: int, i: int, j: int) -> int:
    """A seed of 32 bits, which scikit-learn takes, for two targets."""
    return int(np.random.default_rng([seed, 4, i, j]).integers(2**32))
