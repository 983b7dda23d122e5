"""What is reached without a network: the yardstick in every table of results.

- 'mean': mean of the training labels; class frequencies for classes.
- 'identity', for the targets that the input gives away, see `identities`.
- 'ridge': ridge regression (logistic regression for classes) on the grid mean and the cell volume
  and their logarithms. The penalty is chosen by cross-validation inside the training rows.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from densityjax.results.metrics import Metrics, target_metrics
from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec, labelled

BASELINES = ("mean", "identity", "ridge")
PENALTIES = np.logspace(-3, 3, 13)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labels of a split and the few numbers of each input that the baselines see.

    Attributes:
        labels: target name -> [n] labels, NaN (classes: -1) = missing.
        grid_mean: [n] mean electron density, e/Å^3.
        volume: [n] det(lattice), Å^3.
        identities: {target: [n]} of the targets with an identity, in their unit; see
          `identities.identities`.
    """

    labels: Mapping[str, np.ndarray]
    grid_mean: np.ndarray
    volume: np.ndarray
    identities: Mapping[str, np.ndarray]

    def features(self) -> np.ndarray:
        """Inputs of the ridge: grid mean, volume and their logarithms, [n, 4]."""
        columns = np.stack([self.grid_mean, self.volume], axis=1).astype(np.float64)
        return np.concatenate([columns, np.log(columns)], axis=1)


def _labelled(spec: TargetSpec, rows: Rows) -> np.ndarray:
    return labelled(spec, np.asarray(rows.labels[spec.name]))  # [n]


def _mean(spec: TargetSpec, train: Rows, test: Rows) -> np.ndarray:
    labels = np.asarray(train.labels[spec.name])[_labelled(spec, train)]
    if not labels.size:
        raise UserError(
            f"target '{spec.name}' has no label in the training rows: remove it from config.targets"
        )
    if spec.kind == "classification":
        frequencies = np.bincount(labels.astype(int), minlength=len(spec.classes)) / labels.size
        return np.tile(frequencies, (test.volume.size, 1))  # [n, K]
    return np.full(test.volume.size, labels.mean(dtype=np.float64))  # [n]


def _identity(spec: TargetSpec, train: Rows, test: Rows) -> np.ndarray:
    values = np.asarray(test.identities[spec.name], np.float64)  # [n]
    return np.where(np.isfinite(values), values, _mean(spec, train, test))


def _ridge(spec: TargetSpec, train: Rows, test: Rows) -> np.ndarray:
    rows = _labelled(spec, train)
    features, labels = train.features()[rows], np.asarray(train.labels[spec.name])[rows]
    if np.unique(labels).size < 2:  # nothing to fit
        return _mean(spec, train, test)
    # Takes a second to import, which training does not wait for.
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classify = spec.kind == "classification"
    estimator = LogisticRegression(max_iter=2000) if classify else RidgeCV(PENALTIES)
    model = make_pipeline(StandardScaler(), estimator)
    model.fit(features, labels)
    if not classify:
        return model.predict(test.features())  # [n]
    probabilities = np.zeros((test.volume.size, len(spec.classes)))  # 0: not in the training rows
    probabilities[:, model.classes_.astype(int)] = model.predict_proba(test.features())
    return probabilities  # [n, K]


def baseline_predictions(
    train: Rows, test: Rows, specs: Sequence[TargetSpec]
) -> dict[str, dict[str, np.ndarray]]:
    """Predicts `test` with the three baselines, everything fitted on `train` alone.

    Args:
        train: rows with labels of every spec.
        test: rows to predict; its labels are not read.
        specs: the targets.

    Returns:
        {'mean' | 'identity' | 'ridge': {target: values [n] in the target's unit, or class
        probabilities [n, K]}}; 'identity' holds only targets with an identity.

    Raises:
        UserError: a target has no label in the training rows.
    """
    predictions = {
        "mean": {spec.name: _mean(spec, train, test) for spec in specs},
        "identity": {s.name: _identity(s, train, test) for s in specs if s.identity is not None},
        "ridge": {spec.name: _ridge(spec, train, test) for spec in specs},
    }
    for values in predictions.values():
        for spec in specs:
            if spec.minimum is not None and spec.name in values:  # as the model's are
                values[spec.name] = np.maximum(values[spec.name], spec.minimum)
    return predictions


def baseline_metrics(
    train: Rows, test: Rows, specs: Sequence[TargetSpec]
) -> dict[str, dict[str, Metrics]]:
    """`metrics.target_metrics` of `baseline_predictions` against the labels of `test`."""
    by_name = {spec.name: spec for spec in specs}
    return {
        baseline: {
            name: target_metrics(by_name[name], test.labels[name], values)
            for name, values in predictions.items()
        }
        for baseline, predictions in baseline_predictions(train, test, specs).items()
    }
