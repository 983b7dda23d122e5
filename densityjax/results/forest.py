"""Extra-trees as arrays: fitted by scikit-learn, kept and evaluated without it.

A file of arrays runs nothing when it is read and does not depend on the version of a library.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

_ARRAYS = ("feature", "threshold", "left", "right", "value", "roots")
_CHILDREN = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Forest:
    """Regression trees, the nodes of all in one array.

    Attributes:
        feature: int [nodes] column that a node asks for, -1 for a leaf.
        threshold: float32 [nodes]; rows at most this go left.
        left, right: int [nodes].
        value: float32 [nodes] mean of the labels of a leaf.
        roots: int [trees].
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    roots: np.ndarray

    def predict(self, columns: np.ndarray) -> np.ndarray:
        """Mean over the trees [n] of columns [n, F]."""
        columns = columns.astype(np.float32)  # as scikit-learn compares them
        rows = np.arange(len(columns))[:, None]
        node = np.tile(self.roots, (len(columns), 1))  # [n, trees]
        while True:
            asked = self.feature[node]
            inner = asked >= 0
            if not inner.any():
                return self.value[node].mean(axis=1)
            goes_left = columns[rows, np.maximum(asked, 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` takes: children by the steps to them, which take less room packed."""
        places = np.arange(len(self.feature), dtype=np.int32)
        steps = {f"to_{name}": getattr(self, name) - places for name in _CHILDREN}
        return {name: getattr(self, name) for name in _ARRAYS if name not in _CHILDREN} | steps

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Forest":
        """Inverse of `arrays`; files of before the steps have the children themselves."""
        places = np.arange(len(arrays["feature"]), dtype=np.int32)
        children = {
            name: arrays[name] if name in arrays else arrays[f"to_{name}"] + places
            for name in _CHILDREN
        }
        return cls(**{name: arrays[name] for name in _ARRAYS if name not in _CHILDREN}, **children)


def fit_forest(
    columns: np.ndarray, labels: np.ndarray, weights: np.ndarray, trees: int = 50, seed: int = 0
) -> Forest:
    """Extra-trees (Geurts, Ernst and Wehenkel, Mach. Learn. 63, 3, 2006).

    Args:
        columns: [n, F].
        labels: [n].
        weights: [n] of the rows.
    """
    from sklearn.ensemble import ExtraTreesRegressor  # a second, which prediction does not wait for

    found = ExtraTreesRegressor(
        trees, min_samples_leaf=5, max_features=0.4, random_state=seed,
    ).fit(columns.astype(np.float32), labels, sample_weight=weights)
    parts = [tree.tree_ for tree in found.estimators_]
    starts = np.cumsum([0, *(part.node_count for part in parts)])

    def joined(name: str, moved: bool) -> np.ndarray:
        return np.concatenate([
            getattr(part, name) + (start if moved else 0) for part, start in zip(parts, starts)
        ])

    leaf = joined("children_left", False) < 0
    exact = joined("threshold", False)
    threshold = exact.astype(np.float32)
    # Columns are float32: one is at most a number if it is at most the float32 below that number.
    threshold = np.where(
        threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold
    )
    return Forest(
        feature=np.where(leaf, -1, joined("feature", False)).astype(np.int32),
        threshold=threshold,
        left=joined("children_left", True).astype(np.int32),
        right=joined("children_right", True).astype(np.int32),
        # Of inner nodes nothing is said, and nothing takes less room packed.
        value=np.where(leaf, np.concatenate([part.value[:, 0, 0] for part in parts]), 0).astype(
            np.float32
        ),
        roots=starts[:-1].astype(np.int32),
    )
