"""The learners of one target: two Gaussian processes and extra-trees on the same features."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from densityjax.results import gaussian_process as gp
from densityjax.targets import TargetSpec

LEARNERS = (*gp.KINDS, "trees")
TREES, TREE_FEATURES = 100, 0.3


@dataclasses.dataclass(frozen=True)
class Learners:
    """The three learners of one target, or a constant where there is nothing to learn.

    Attributes:
        processes: none if the labels are all the same.
        trees: scikit-learn's forest; None likewise, and where it was not kept.
        rows: [k] places in the blocks of the yardstick, of the rows that the processes were fitted
          on.
        constant: [C] mean of the training labels as trained.
        facts: rows that each part was fitted on, and what leave-one-out chose.
    """

    processes: tuple[gp.GaussianProcess, ...]
    trees: Any
    rows: np.ndarray
    constant: np.ndarray
    facts: dict[str, Any]

    def predict(
        self, apart: Mapping[str, gp.Blocks], joined: np.ndarray, classes: bool
    ) -> dict[str, np.ndarray]:
        """{learner: [m, C] labels as trained, or class probabilities}; empty for a constant.

        Args:
            apart: {kind: {block: [m, n] distances to the blocks of the yardstick}}.
            joined: [m, F] standardised features of all blocks.
        """
        found = {
            process.kind: process.predict(
                {block: values[:, self.rows] for block, values in apart[process.kind].items()}
            )
            for process in self.processes
        }
        if classes:
            found = {kind: _probabilities(values) for kind, values in found.items()}
        if self.trees is None:
            return found
        if not classes:
            return found | {"trees": self.trees.predict(joined)[:, None]}
        forest = np.zeros((len(joined), len(self.constant)))
        forest[:, self.trees.classes_] = self.trees.predict_proba(joined)
        return found | {"trees": forest}


def fit_trees(spec: TargetSpec, features: np.ndarray, trained: np.ndarray, seed: int) -> Any:
    """Extra-trees of rows with features [n, F] and labels as trained [n, C]."""
    # Takes a second to import, which training does not wait for.
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    arguments = {
        "n_estimators": TREES, "max_features": TREE_FEATURES, "random_state": seed, "n_jobs": -1,
    }
    if spec.kind == "classification":
        forest = ExtraTreesClassifier(**arguments).fit(features, trained.argmax(axis=1))
    else:
        forest = ExtraTreesRegressor(**arguments).fit(features, trained[:, 0])
    # Threads would add the trees' predictions in the order in which they end.
    return forest.set_params(n_jobs=1)


def _probabilities(indicators: np.ndarray) -> np.ndarray:
    """Class probabilities [m, K] of what the processes say of the indicators."""
    clipped = np.clip(indicators, 1e-6, 1)
    return clipped / clipped.sum(axis=1, keepdims=True)
