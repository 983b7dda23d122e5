"""Conformal prediction when chemical systems are exchangeable and their rows are not.

Rows of one chemical system resemble each other, so that each system weighs one however many rows it
has (Lee, Barber and Willett, arXiv 2306.06342, eq. 6): of S systems, a row of one with m rows has
the weight 1 / m, and a new system, whose score is not known, weighs one as well. The threshold of a
coverage c is the smallest score whose weighted rank is at least c (S + 1). With one row per system
that is the ceil(c (S + 1))-th smallest, the rank of split conformal prediction.

Scores come from predictions of models that did not train on the rows. Where several models make
them, each out of its own fold, the threshold is that of cross-conformal prediction (Vovk, Ann.
Math. Artif. Intell. 74, 9, 2015; CV+, Barber et al., Ann. Statist. 49, 486, 2021).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from densityjax.runtime.errors import UserError

_ROUNDING = 1e-9  # of ranks, which are sums of fractions
CLASS_SCORES = ("lac", "aps")


def system_weights(systems: np.ndarray) -> np.ndarray:
    """[n] 1 over the number of rows of a row's chemical system; they add up to the systems."""
    _, place, counts = np.unique(systems, return_inverse=True, return_counts=True)
    return 1 / counts[place]


def largest_coverage(num_systems: int) -> float:
    """The largest coverage that so many systems support, S / (S + 1)."""
    return num_systems / (num_systems + 1)


def check_coverage(coverage: float, num_systems: int, what: str) -> None:
    """Raises UserError for a coverage that so many systems do not support.

    Args:
        what: it is asked of, for people.
    """
    if not 0 < coverage < 1:
        raise UserError(f"--coverage={coverage:g}: it must be a number between 0 and 1")
    if coverage * (num_systems + 1) > num_systems + _ROUNDING:
        most = math.floor(largest_coverage(num_systems) * 1e4) / 1e4
        raise UserError(
            f"--coverage={coverage:g}: {what} was calibrated on {num_systems} chemical systems, "
            f"which support {most:g} at most; ask for --coverage={most:g} or less, or calibrate on "
            "more (config.ensemble.rotate calibrates on all training folds)"
        )


def threshold(scores: np.ndarray, weights: np.ndarray, coverage: float) -> float:
    """The smallest score whose weighted rank is at least coverage (S + 1); inf if there is none.

    Args:
        scores: [n] of the calibration rows.
        weights: [n], see `system_weights`; S is their sum.
    """
    order = np.argsort(scores, kind="stable")
    ranks = np.cumsum(weights[order])  # [n]
    needed = coverage * (weights.sum() + 1) - _ROUNDING
    place = int(np.searchsorted(ranks, needed))
    return float(scores[order][place]) if place < len(scores) else math.inf


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """How many sigma an interval reaches below and above its prediction."""

    lower: float
    upper: float


def interval_thresholds(
    scores: np.ndarray, weights: np.ndarray, coverage: float, asymmetric: bool
) -> Thresholds:
    """Thresholds of signed scores (truth - prediction) / sigma.

    Args:
        scores, weights: [n], see `threshold`.
        asymmetric: each side misses half of what is missed, by a threshold of its own; where the
          systems do not support that, both have that of the absolute score.
    """
    if asymmetric:
        side = (1 + coverage) / 2
        found = Thresholds(threshold(-scores, weights, side), threshold(scores, weights, side))
        if math.isfinite(found.lower) and math.isfinite(found.upper):
            return found
    both = threshold(np.abs(scores), weights, coverage)
    return Thresholds(both, both)


def class_scores(kind: str, probabilities: np.ndarray) -> np.ndarray:
    """Scores [n, K] of every class, small for a likely one.

    'lac': 1 - probability (Sadinle, Lei and Wasserman, J. Am. Stat. Assoc. 114, 223, 2019). 'aps':
    the sum of the probabilities of the classes that are at least as likely (Romano, Sesia and
    Candès, NeurIPS 2020, without randomisation).
    """
    if kind == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    found = np.empty_like(sums)
    np.put_along_axis(found, order, sums, axis=1)
    return found


def class_thresholds(
    scores: np.ndarray, labels: np.ndarray, systems: np.ndarray, coverage: float
) -> np.ndarray:
    """A threshold for each class [K] from calibration rows.

    A class with at least ceil(1 / alpha) - 1 systems (alpha = 1 - coverage), the fewest whose
    threshold is finite, has its own; the others share that of all their rows, or, if these are too
    few as well, that of all rows. A system of which a share of the rows has the class counts with
    that share: so often is a row of it one of the class.

    Args:
        scores: [n, K], see `class_scores`.
        labels: [n] class index of each row.
        systems: [n] chemical systems.
    """
    classes = np.arange(scores.shape[1])
    true = scores[np.arange(len(labels)), labels]  # [n]
    weights = system_weights(systems)
    counts = np.bincount(labels, weights, len(classes)) + _ROUNDING  # [K] systems
    enough = math.ceil(1 / (1 - coverage) - _ROUNDING) - 1

    def of(rows: np.ndarray) -> float:
        return threshold(true[rows], weights[rows], coverage)

    found = np.full(len(classes), math.inf)
    rare = np.isin(labels, classes[counts < enough])
    pooled = of(rare) if rare.any() else math.inf
    if not math.isfinite(pooled):
        pooled = of(np.ones(len(labels), bool))
    for k in classes:
        found[k] = of(labels == k) if counts[k] >= enough else pooled
    return found


def prediction_sets(
    scores: np.ndarray, thresholds: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Which classes are in the set of each row, bool [n, K]; the most probable one always is."""
    chosen = scores <= thresholds + _ROUNDING
    chosen[np.arange(len(scores)), probabilities.argmax(axis=1)] = True
    return chosen


def folds_of_systems(systems: Sequence[str] | np.ndarray, count: int = 10) -> np.ndarray:
    """[n] int, a fold for each row: none has rows of a system of another."""
    names, of_row = np.unique(systems, return_inverse=True)
    # Neighbours in the order of the names share elements.
    return np.random.default_rng(0).permutation(len(names))[of_row] % min(count, len(names))


def held_out_coverage(
    scores: np.ndarray, systems: np.ndarray, coverage: float, asymmetric: bool
) -> float:
    """Share of rows whose score is within thresholds of other chemical systems.

    A tenth of the systems at a time takes no part in the thresholds that it is held against.

    Args:
        scores: [n] signed, of predictions that did not see their rows.
        systems: [n].
    """
    held, folds = np.zeros(len(scores), bool), folds_of_systems(systems)
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        limits = interval_thresholds(
            scores[others], system_weights(systems[others]), coverage, asymmetric
        )
        held[own] = (-limits.lower <= scores[own]) & (scores[own] <= limits.upper)
    return float(held.mean())
