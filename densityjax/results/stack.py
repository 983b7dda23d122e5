"""The best mixture of learners that held-out predictions allow (stacking).

Every target is predicted by a weighted mean of what the network and the yardsticks' learners say.
The weights are not negative and add up to 1 (Breiman, Mach. Learn. 24, 49, 1996); they minimise the
squared error of predictions for materials that no learner was fitted on, in the target as trained
(intensive, transformed), or that of the class probabilities. A target that the file gives away has
the identity alone.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from densityjax.results.conformal import folds_of_systems
from densityjax.results.constraints import mixture_weights, project
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, from_intensive, labelled, to_intensive

IDENTITY = "identity"
Columns = Mapping[str, Mapping[str, np.ndarray]]  # {learner: {target: [n] or [n, K]}}
_ONE = 1e3  # weight of the row that makes the weights add up to 1


@dataclasses.dataclass(frozen=True)
class Cells:
    """What makes a target of some materials intensive.

    Attributes:
        num_electrons, volume: [n] valence electrons and Å^3 per cell.
    """

    num_electrons: np.ndarray
    volume: np.ndarray

    def __len__(self) -> int:
        return len(self.volume)

    def rows(self, rows: np.ndarray) -> "Cells":
        """Of some of the materials."""
        return Cells(self.num_electrons[rows], self.volume[rows])


@dataclasses.dataclass(frozen=True)
class Stack:
    """A fitted mixture.

    Attributes:
        weights: {target: {learner: weight}}.
        constraints: config.model.constraints, which the mixture obeys.
    """

    weights: Mapping[str, Mapping[str, float]]
    constraints: tuple[str, ...] = ()

    def __call__(
        self, columns: Columns, specs: Sequence[TargetSpec], cells: Cells
    ) -> dict[str, np.ndarray]:
        """Mixed predictions {target: [n] in its unit, or class probabilities [n, K]}.

        Where the identity is not determined (NaN), the mean of the learners stands for it.
        """
        values = {
            spec.name: _mixed(spec, columns, self.weights[spec.name], cells) for spec in specs
        }
        return project(values, specs, self.constraints)

    def to_json(self) -> dict[str, Any]:
        """{target: {learner: weight}} with weights above 0 alone."""
        return {
            target: {name: weight for name, weight in weights.items() if weight > 0}
            for target, weights in self.weights.items()
        }


def read_stack(path: Path, constraints: Sequence[str] = ()) -> Stack:
    """Reads what `Stack.to_json` gave.

    Args:
        constraints: of the run.

    Raises:
        ValueError, TypeError, AttributeError: it is damaged.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    return Stack({
        target: {name: float(weight) for name, weight in weights.items()}
        for target, weights in content.items()
    }, tuple(constraints))


def _mixed(
    spec: TargetSpec, columns: Columns, weights: Mapping[str, float], cells: Cells
) -> np.ndarray:
    if IDENTITY in weights:
        exact = columns[IDENTITY][spec.name]
        if np.isfinite(exact).all():
            return exact
        others = [name for name in columns if name != IDENTITY]
        rest = _mixed(spec, columns, {name: 1 / len(others) for name in others}, cells)
        return np.where(np.isfinite(exact), exact, rest)
    parts = [w * as_trained(spec, columns[name][spec.name], cells) for name, w in weights.items()]
    total = np.sum(parts, axis=0)
    if spec.kind == "classification":
        return total / total.sum(axis=1, keepdims=True)
    return from_intensive(spec, total, cells.num_electrons, cells.volume)


def as_trained(spec: TargetSpec, values: np.ndarray, cells: Cells) -> np.ndarray:
    """Values [n] in their unit, intensive and transformed; class probabilities as they are."""
    if spec.kind == "classification":
        return values
    return to_intensive(spec, values, cells.num_electrons, cells.volume)


def fit_stack(
    columns: Columns, labels: Mapping[str, np.ndarray], specs: Sequence[TargetSpec], cells: Cells,
    constraints: Sequence[str] = (),
) -> Stack:
    """Weights for predictions of materials that their learners have not seen.

    Args:
        columns: held-out predictions; 'identity' has the targets with an identity alone.
        labels: {target: [n]} in the target's unit, NaN (classes: -1) = missing.

    Raises:
        UserError: there is no learner.
    """
    learners = [name for name in columns if name != IDENTITY]
    if not learners:
        raise UserError("config.stack.learners is empty: name at least one")
    weights = {}
    for spec in specs:
        if spec.identity is not None and IDENTITY in columns:
            weights[spec.name] = {IDENTITY: 1.0}
            continue
        own = {name: columns[name][spec.name] for name in learners}
        found = _weights(spec, list(own.values()), np.asarray(labels[spec.name]), cells)
        weights[spec.name] = dict(zip(learners, found.tolist(), strict=True))
    return Stack(mixture_weights(weights, constraints), tuple(constraints))


def _weights(
    spec: TargetSpec, columns: Sequence[np.ndarray], labels: np.ndarray, cells: Cells
) -> np.ndarray:
    """[learners]; equal ones where the labels determine none."""
    rows = np.flatnonzero(labelled(spec, labels))
    equal = np.full(len(columns), 1 / len(columns))
    if len(rows) < 2 * len(columns):
        return equal
    part = cells.rows(rows)
    if spec.kind == "classification":
        truth = np.eye(len(spec.classes))[labels[rows].astype(int)].ravel()
        design = np.stack([values[rows].ravel() for values in columns], axis=1)
    else:
        truth = as_trained(spec, labels[rows].astype(np.float64), part)
        design = np.stack([as_trained(spec, values[rows], part) for values in columns], axis=1)
    scale = truth.std()
    if not scale > 0:
        return equal
    centre = truth.mean()  # the weights add up to 1, so that it changes nothing but rounding
    design, truth = (design - centre) / scale, (truth - centre) / scale
    heavy = _ONE * np.sqrt(len(truth))
    found, _ = nnls(
        np.vstack([design, np.full(len(columns), heavy)]), np.append(truth, heavy)
    )
    return found / found.sum()


def cross_fitted(
    columns: Columns, labels: Mapping[str, np.ndarray], specs: Sequence[TargetSpec], cells: Cells,
    systems: np.ndarray, constraints: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Mixed predictions of the held-out materials by weights that have not seen their systems.

    Args:
        systems: [n] chemical systems; a tenth of them at a time is left out of the fit.

    Returns:
        As `Stack.__call__`.
    """
    fold = folds_of_systems(systems)
    if fold.max() == 0:  # a single system
        return fit_stack(columns, labels, specs, cells, constraints)(columns, specs, cells)
    found: dict[str, np.ndarray] = {}
    for number in range(fold.max() + 1):
        kept, left = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        stack = fit_stack(
            take(columns, kept), {k: np.asarray(v)[kept] for k, v in labels.items()}, specs,
            cells.rows(kept), constraints,
        )
        for name, values in stack(take(columns, left), specs, cells.rows(left)).items():
            found.setdefault(name, np.zeros((len(cells), *values.shape[1:])))[left] = values
    return found


def take(columns: Columns, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Some rows of every column."""
    return {
        name: {target: values[rows] for target, values in own.items()}
        for name, own in columns.items()
    }
