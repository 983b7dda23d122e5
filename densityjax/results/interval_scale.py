"""Sigma of a prediction: how wide its interval is, beside those of the other materials.

Everything is made of what a model says of a material without its label. A sigma needs no unit of
its own, since the threshold of an interval scales it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from densityjax.results.conformal import folds_of_systems, interval_thresholds, largest_coverage
from densityjax.results.forest import Forest, fit_forest
from densityjax.results.stack import Cells, as_trained
from densityjax.targets import TargetSpec

CANDIDATES = ("constant", "views", "learners", "distance", "trees")
_COVERAGE = 0.9  # at which candidates are compared
_FEWEST = 30  # systems, below which there is nothing to choose by
_ROWS = 4000  # at most, that trees are fitted to
_SHARE = 0.2  # of the median, added so that no sigma is 0
_NARROWER = 0.99  # times the width of a simpler choice, or the simpler one stays
_LUCK = 0.3  # quantile of the errors that is added to each: no small error is sure
_EXACT = 1e-3  # standard deviations of the predictions, below which errors are rounding
_REACHES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_FARTHEST = 0.8  # quantile of the distance beyond which materials are the farthest fifth


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a model says of n materials, from which sigma is made.

    Attributes:
        specs: the targets.
        values: {target: [n] in its unit, or class probabilities [n, K]} that are answered.
        views: {target: [n]} standard deviation over views, as trained; mean over members.
        learners: {target: [n]} likewise that of what network and kernels say; empty without a
          mixture.
        distance: [n] to the training materials, in components of composition; mean over members.
        components: [n, D] of the composition.
        cells: what makes targets intensive.
        num_atoms: [n] per cell.
    """

    specs: tuple[TargetSpec, ...]
    values: Mapping[str, np.ndarray]
    views: Mapping[str, np.ndarray]
    learners: Mapping[str, np.ndarray]
    distance: np.ndarray
    components: np.ndarray
    cells: Cells
    num_atoms: np.ndarray

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """[n, F] float32, the same F for all materials of a run."""
        found = [np.log(self.num_atoms), np.log(self.distance + 0.1)]
        for spec in self.specs:
            if spec.kind == "classification":
                found += list(self.values[spec.name].T[1:])
                continue
            found.append(as_trained(spec, self.values[spec.name], self.cells))
            for spread in (self.views, self.learners):
                if spec.name in spread:
                    found.append(np.log(spread[spec.name] + 1e-6))
        return np.column_stack([*found, self.components]).astype(np.float32)


def _spread_as_trained(
    spec: TargetSpec, spread: np.ndarray, values: np.ndarray, cells: Cells
) -> np.ndarray:
    """[n] standard deviations of values in their unit, as trained (to first order of a log)."""
    scale = {"electron": cells.num_electrons, "volume": cells.volume, None: 1.0}[spec.per]
    return spread / values if spec.transform == "log" else spread / scale


def spreads_as_trained(
    specs: Sequence[TargetSpec], views: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray],
    columns: Mapping[str, Mapping[str, np.ndarray]], cells: Cells,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(spread over views, spread between learners) {regression target: [n]}, as trained.

    Args:
        views: {target: [n]} of the network, in the target's unit; empty where there is none.
        values: {target: [n]} that the network predicts.
        columns: {learner: {target: [n]}} in the target's unit; empty without a mixture.
        cells: what makes targets intensive.
    """
    between, over_views = {}, {}
    for spec in specs:
        name = spec.name
        if spec.kind == "classification":
            continue
        over_views[name] = np.zeros(len(cells))
        if name in views:
            over_views[name] = _spread_as_trained(spec, views[name], values[name], cells)
        if columns:
            said = [as_trained(spec, own[name], cells) for own in columns.values() if name in own]
            between[name] = np.std(said, axis=0)
    return over_views, between


@dataclasses.dataclass(frozen=True)
class Scale:
    """A fitted sigma of one target.

    Attributes:
        kind: of `CANDIDATES`.
        offset: what is added to views, learners or distance.
        forest: of 'trees', the logarithm of the absolute error.
        reach: power of the distance to the training data that multiplies all this.
        near: distance that is added in that power.
    """

    kind: str
    offset: float = 0.0
    forest: Forest | None = None
    reach: float = 0.0
    near: float = 1.0

    def __call__(self, target: str, evidence: Evidence) -> np.ndarray:
        """Sigma [n]."""
        far = (evidence.distance + self.near) ** self.reach
        if self.kind == "constant":
            return far
        if self.kind == "trees":
            return np.exp(self.forest.predict(evidence.columns)) * far
        return (_simple(self.kind, target, evidence) + self.offset) * far


def _simple(kind: str, target: str, evidence: Evidence) -> np.ndarray:
    if kind == "distance":
        return evidence.distance
    return (evidence.views if kind == "views" else evidence.learners)[target]


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best sigma of a target, and how the calibration rows fared with it.

    Attributes:
        sigma: [n] of the calibration rows, by trees that have not seen their systems.
        asymmetric: whether each side has a threshold of its own.
        widths: {candidate: mean width at the same coverage, over that of a constant one}.
        held_out: of trees, the sigma that has not seen the system of a calibration row, and
          int [n] which of them that is.
        exact: whether the errors are those of rounding: nothing was learned.
    """

    scale: Scale
    sigma: np.ndarray
    asymmetric: bool
    widths: dict[str, float]
    held_out: tuple[tuple[Scale, ...], np.ndarray]
    exact: bool = False

    def sigma_of(self, target: str, evidence: Evidence, rows: np.ndarray) -> np.ndarray:
        """Sigma [m] of other evidence about calibration rows, by what has not seen their systems.

        Args:
            rows: int [m] of the n calibration rows.
        """
        scales, fold = self.held_out
        found = np.stack([scale(target, evidence) for scale in scales])  # [folds, m]
        return found[fold[rows], np.arange(len(rows))]


def choose(
    spec: TargetSpec, evidence: Evidence, rows: np.ndarray, residuals: np.ndarray,
    systems: np.ndarray, weights: np.ndarray,
) -> Choice:
    """The candidate with the least mean width on calibration rows, at the coverage 0.9.

    Args:
        evidence: of all materials.
        rows: [n] those of the calibration rows.
        residuals: [n] truth - prediction, as trained.
        systems, weights: [n], see `conformal.system_weights`.
    """
    count = weights.sum()
    plain_scale = Scale("constant")
    constant = Choice(
        plain_scale, np.ones(len(rows)), False, {"constant": 1.0},
        ((plain_scale,), np.zeros(len(rows), int)),
    )
    centre = as_trained(spec, evidence.values[spec.name], evidence.cells)[rows]
    if residuals.std() <= _EXACT * centre.std():
        return dataclasses.replace(constant, exact=True)
    if count < _FEWEST:
        return constant
    coverage = min(_COVERAGE, largest_coverage(int(count)))
    lowest = _lowest(spec, evidence.cells)[rows]

    def width(sigma: np.ndarray, asymmetric: bool) -> float:
        found = interval_thresholds(residuals / sigma, weights, coverage, asymmetric)
        low = np.maximum(centre - found.lower * sigma, lowest)
        return float(np.average(centre + found.upper * sigma - low, weights=weights))

    fitted = {
        kind: _fit(kind, spec.name, evidence, rows, residuals, systems, weights)
        for kind in CANDIDATES if kind != "learners" or spec.name in evidence.learners
    }
    plain = width(fitted["constant"][1], False)
    widths, best = {}, ("constant", False)
    for kind, (_, sigma, _) in fitted.items():
        for asymmetric in (False, True):
            found = width(sigma, asymmetric) / plain
            name = f"{kind}, asymmetric" if asymmetric else kind
            widths[name] = found
            so_far = widths[f"{best[0]}, asymmetric" if best[1] else best[0]]
            if found < _NARROWER * so_far:
                best = kind, asymmetric
    scale, sigma, (held_out, fold) = fitted[best[0]]
    distance = evidence.distance[rows]
    near = _SHARE * float(np.median(distance)) + 1e-12
    reach = _reach(distance + near, residuals / sigma, weights, coverage, best[1])
    scale, *others = (
        dataclasses.replace(own, reach=reach, near=near) for own in (scale, *held_out)
    )
    sigma = sigma * (distance + near) ** reach
    return Choice(scale, sigma, best[1], widths, (tuple(others), fold))


def _reach(
    distance: np.ndarray, scores: np.ndarray, weights: np.ndarray, coverage: float,
    asymmetric: bool,
) -> float:
    """The least power of the distance with which the farthest fifth is covered as the others are.

    Without it intervals of far materials hold the truth too seldom and those of near ones too
    often, whatever the coverage of all.
    """
    far = distance >= np.quantile(distance, _FARTHEST)
    error = np.sqrt(coverage * (1 - coverage) / weights[far].sum())  # of the coverage of so many
    found = []
    for reach in _REACHES:
        own = scores / distance**reach
        limits = interval_thresholds(own, weights, coverage, asymmetric)
        held = (own <= limits.upper) & (-own <= limits.lower)
        found.append(float(np.average(held[far], weights=weights[far])))
        if found[-1] >= coverage - error / 2:
            return reach
    return _REACHES[int(np.argmax(found))]


def _lowest(spec: TargetSpec, cells: Cells) -> np.ndarray:
    """[n] the target's minimum as trained, -inf where there is none."""
    if spec.minimum is None or (spec.transform == "log" and spec.minimum <= 0):
        return np.full(len(cells), -np.inf)
    return as_trained(spec, np.full(len(cells), float(spec.minimum)), cells)


def _fit(
    kind: str, target: str, evidence: Evidence, rows: np.ndarray, residuals: np.ndarray,
    systems: np.ndarray, weights: np.ndarray,
) -> tuple[Scale, np.ndarray, tuple[tuple[Scale, ...], np.ndarray]]:
    """(candidate fitted to all calibration rows, its sigma [n] for them, `Choice.held_out`)."""
    once = np.zeros(len(rows), int)
    if kind == "constant":
        return Scale(kind), np.ones(len(rows)), ((Scale(kind),), once)
    if kind != "trees":
        known = _simple(kind, target, evidence)[rows]
        scale = Scale(kind, _SHARE * float(np.median(known)) + 1e-12)
        return scale, known + scale.offset, ((scale,), once)
    size = np.abs(residuals)
    label = np.log(size + np.quantile(size, _LUCK) + 1e-12)
    columns = evidence.columns[rows]
    fold = folds_of_systems(systems)
    sigma, scales = np.empty(len(rows)), []
    for number in range(fold.max() + 1):
        left = fold == number
        forest = fit_forest(*_some(columns[~left], label[~left], weights[~left]))
        sigma[left] = np.exp(forest.predict(columns[left]))
        scales.append(Scale(kind, 0.0, forest))
    whole = Scale(kind, 0.0, fit_forest(*_some(columns, label, weights)))
    return whole, sigma, (tuple(scales), fold)


def _some(*arrays: np.ndarray) -> Sequence[np.ndarray]:
    """At most `_ROWS` rows of each."""
    count = len(arrays[0])
    if count <= _ROWS:
        return arrays
    rows = np.sort(np.random.default_rng(0).choice(count, _ROWS, replace=False))
    return [array[rows] for array in arrays]
