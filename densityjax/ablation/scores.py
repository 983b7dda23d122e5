"""Scores of predictions in the data and in every replicate of the bootstrap, and differences.

In all arrays [R + 1], place 0 is the data and the others are the replicates.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from densityjax.ablation.bootstrap import Draws
from densityjax.ablation.results import CellResult, SeedsOfSplit
from densityjax.targets import TargetSpec, labelled

# A sum of squares this small beside that of the labels themselves is the rounding of equal labels.
EQUAL_LABELS = 1e-12
TIE = 12  # decimals to which scores must agree to be a tie; the rest is rounding


@dataclasses.dataclass(frozen=True)
class VariantScores:
    """One variant on one target.

    Attributes:
        scores: (split, seed) -> [R + 1], NaN where undefined.
        model: (split, seed) -> equal numbers for identical predictions.
    """

    scores: dict[tuple[str, int], np.ndarray]
    model: dict[tuple[str, int], int]


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """One side less the other on one target.

    Attributes:
        values: [R + 1] mean over splits of the mean over seeds.
        cells: (split, seed) -> difference in the data.
        identical: those (split, seed) in which all predictions are the same.
    """

    values: np.ndarray
    cells: dict[tuple[str, int], float]
    identical: frozenset[tuple[str, int]]


def score_variants(
    variants: Sequence[str], spec: TargetSpec, cells: Iterable[CellResult], draws: Draws
) -> dict[str, VariantScores]:
    """Scores of the variants on one target, for every split and seed of theirs."""
    scored = {variant: VariantScores({}, {}) for variant in variants}
    by_split: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.variant in scored:
            by_split.setdefault(cell.split, []).append(cell)
    for own in by_split.values():
        _score_split(scored, spec, own, draws)
    return scored


def _score_split(
    scored: Mapping[str, VariantScores], spec: TargetSpec, cells: Sequence[CellResult], draws: Draws
) -> None:
    """Adds the scores of all variants and seeds on one split, distinct predictions once."""
    split, truth = cells[0].split, np.asarray(cells[0].truth[spec.name])
    known = labelled(spec, truth)  # [n]
    distinct: dict[bytes, int] = {}
    predictions = []
    for cell in cells:
        prediction = np.asarray(cell.prediction[spec.name])[known]
        prediction = prediction.astype(np.float64)
        model = distinct.setdefault(prediction.tobytes(), len(distinct))
        if model == len(predictions):
            predictions.append(prediction)
        scored[cell.variant].model[split, cell.seed] = model
    group, counts = draws.group(split)[:, known], draws.systems(split)
    function = balanced_accuracy if spec.classes else r2
    scores = function(truth[known], predictions, group, counts)  # [distinct, R + 1]
    for cell in cells:
        models = scored[cell.variant]
        models.scores[split, cell.seed] = scores[models.model[split, cell.seed]]


def r2(
    truth: np.ndarray, predictions: Sequence[np.ndarray], group: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """1 - sum w e^2 / (sum w y^2 - (sum w y)^2 / sum w), NaN where all labels are equal.

    Args:
        truth: [n] labels, none missing.
        predictions: K of [n].
        group: [m, n] which material belongs to which system.
        counts: [R, m] multiplicities w of the systems.

    Returns:
        [K, R].
    """
    truth = truth.astype(np.float64)
    # Unlike the mean, the median of equal labels is exactly the label.
    y = truth - np.median(truth) if truth.size else truth
    errors = [(truth - prediction) ** 2 for prediction in predictions]
    columns = np.stack([np.ones_like(y), y, y * y, *errors])  # [3 + K, n]
    weight, first, second, *squares = (columns @ group.T) @ counts.T  # [R] each
    with np.errstate(divide="ignore", invalid="ignore"):
        total = second - first**2 / weight
        total[~(total > EQUAL_LABELS * second)] = np.nan
        return 1 - np.stack(squares) / total


def balanced_accuracy(
    truth: np.ndarray, predictions: Sequence[np.ndarray], group: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Mean recall over the classes present, NaN with fewer than two; arguments as `r2`.

    Args:
        predictions: K of [n, classes].
    """
    classes = np.unique(truth)
    member = (truth == classes[:, None]).astype(np.float64)  # [C, n]
    labels = (member @ group.T) @ counts.T  # [C, R]
    present = (labels > 0).sum(0)  # [R]
    scores = []
    for prediction in predictions:
        correct = member * (np.argmax(prediction, axis=1) == truth)
        hits = (correct @ group.T) @ counts.T  # [C, R]
        recall = np.divide(hits, labels, out=np.zeros_like(hits), where=labels > 0)
        scores.append(np.where(present > 1, recall.sum(0) / np.maximum(present, 1), np.nan))
    return np.stack(scores)


def mean_scores(
    members: Sequence[VariantScores], seeds_of: SeedsOfSplit, draws: Draws
) -> np.ndarray:
    """[members, R + 1] mean over splits of the mean over seeds.

    A split in which the score of the data is undefined is left out.
    """
    levels = []
    for scored in members:
        means = []
        for split, seeds in seeds_of.items():
            if seeds and np.isfinite(scored.scores[split, seeds[0]][0]):
                values = np.stack([scored.scores[split, s] for s in seeds])  # [seeds, R + 1]
                means.append(np.sum(draws.seeds(split, seeds) * values, axis=0))
        nothing = np.full(draws.num_replicates + 1, np.nan)
        levels.append(np.mean(means, axis=0) if means else nothing)
    return np.stack(levels)


def paired_difference(
    scored: Mapping[str, VariantScores],
    left: Sequence[str],
    right: Sequence[str],
    seeds_of: SeedsOfSplit,
    draws: Draws,
) -> PairedDifference:
    """Difference of two sides, exactly 0 where all predictions are identical.

    Args:
        scored: variant -> scores on the target.
        left, right: variants of either side.
        seeds_of: split -> seeds that both sides have.
        draws: of the bootstrap.
    """
    sides = [[scored[v] for v in side] for side in (left, right)]
    a, b = (mean_scores(side, seeds_of, draws) for side in sides)  # [members, R + 1]
    base = b[0]
    values = np.sum(draws.members(left) * (a - base), axis=0)
    values -= np.sum(draws.members(right) * (b - base), axis=0)
    cells, identical = {}, set()
    for key in ((split, s) for split, seeds in seeds_of.items() for s in seeds):
        in_data = [np.array([scored.scores[key][0] for scored in side]) for side in sides]
        base = in_data[1][0]
        if np.isfinite(base):
            gap = np.mean(in_data[0] - base) - np.mean(in_data[1] - base)
            cells[key] = float(np.round(gap, TIE))
            if len({scored.model[key] for side in sides for scored in side}) == 1:
                identical.add(key)
    return PairedDifference(np.round(values, TIE), cells, frozenset(identical))
