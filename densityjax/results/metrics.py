"""Accuracy of predictions in physical units, on host arrays, every material counted once."""

from collections.abc import Mapping, Sequence

import numpy as np

from densityjax.runtime.errors import UserError
from densityjax.targets import TargetSpec

Metrics = dict[str, object]  # JSON-safe: numbers, None where undefined, lists, dicts


_REMEDY = (
    ": look for labels or densities out of range, or train with a lower "
    "config.optimizer.learning_rate in another --workdir"
)


class NotFiniteError(UserError):
    """A model predicts infinity or no number."""


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _check(truth: np.ndarray, prediction: np.ndarray, shape: tuple[int, ...]) -> None:
    if prediction.shape != shape:
        raise ValueError(
            f"predictions of shape {prediction.shape} for labels of shape {truth.shape}, "
            f"expected {shape}"
        )


def regression_metrics(truth: np.ndarray, prediction: np.ndarray) -> Metrics:
    """R2, mean absolute and root mean squared error over the rows that have a label.

    R2 = 1 - sum (y - p)^2 / sum (y - mean y)^2, the mean being that of the rows evaluated; None
    where it is undefined (fewer than 2 rows, or all labels equal).

    Args:
        truth: [n] labels in the target's unit, NaN = missing.
        prediction: [n] in the same unit.

    Returns:
        r2, mae, rmse (in the target's unit) and n, the number of labelled rows.

    Raises:
        ValueError: shapes differ.
        NotFiniteError: a prediction of a labelled row is not finite.
    """
    truth, prediction = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    _check(truth, prediction, truth.shape)
    labelled = np.isfinite(truth)  # [n]
    y, p = truth[labelled], prediction[labelled]
    if not np.all(np.isfinite(p)):
        raise NotFiniteError(
            f"{np.sum(~np.isfinite(p))} of {p.size} predictions are not finite{_REMEDY}"
        )
    if not y.size:
        return {"r2": None, "mae": None, "rmse": None, "n": 0}
    residual = y - p
    defined = np.any(y != y[0])
    total = np.sum((y - y.mean()) ** 2)
    return {
        "r2": _json(1 - np.sum(residual**2) / total) if defined else None,
        "mae": _json(np.mean(np.abs(residual))),
        "rmse": _json(np.sqrt(np.mean(residual**2))),
        "n": int(y.size),
    }


def classification_metrics(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Metrics:
    """Accuracy of class probabilities over the rows that have a label.

    Binary targets: ROC AUC and PR AUC (average precision) are those of the last class. More
    classes: the macro average of one class against the rest, over the classes present in the
    labels. Balanced accuracy is the mean recall over the classes present in the labels; macro-F1
    the mean over the classes present in labels or predictions.

    Args:
        truth: [n] class indices, -1 = missing.
        probabilities: [n, K].
        classes: the K names.

    Returns:
        accuracy, balanced_accuracy, roc_auc, pr_auc, macro_f1 (None where undefined, as AUC is
        with one class present), prevalence {class: fraction of the labels}, n, and confusion
        [K][K] counts, rows true and columns predicted.

    Raises:
        ValueError: a shape or class index is invalid.
        NotFiniteError: a probability of a labelled row is not finite.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities, np.float64)
    _check(truth, probabilities, (truth.size, len(classes)))
    if truth.size and not -1 <= truth.min() <= truth.max() < len(classes):
        raise ValueError(f"class indices must be -1 to {len(classes) - 1} for {tuple(classes)}")
    labelled = truth >= 0  # [n]
    y, p = truth[labelled].astype(int), probabilities[labelled]
    if not np.all(np.isfinite(p)):
        raise NotFiniteError(f"class probabilities are not finite{_REMEDY}")
    predicted = np.argmax(p, axis=1)  # [n]
    counts = np.bincount(y, minlength=len(classes))  # [K]
    result: Metrics = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "roc_auc", "pr_auc", "macro_f1")
    )
    if y.size:
        from sklearn import metrics as sk  # takes a second, which training does not wait for

        confusion = sk.confusion_matrix(y, predicted, labels=range(len(classes)))
        present = counts > 0
        result["accuracy"] = float(np.mean(predicted == y))
        result["balanced_accuracy"] = float(np.mean(np.diag(confusion)[present] / counts[present]))
        result["macro_f1"] = float(sk.f1_score(y, predicted, average="macro", zero_division=0))
        if present.sum() > 1:
            scored = [len(classes) - 1] if len(classes) == 2 else np.flatnonzero(present)
            result["roc_auc"] = float(np.mean([sk.roc_auc_score(y == k, p[:, k]) for k in scored]))
            result["pr_auc"] = float(
                np.mean([sk.average_precision_score(y == k, p[:, k]) for k in scored])
            )
    else:
        confusion = np.zeros((len(classes), len(classes)), int)
    result["prevalence"] = {
        name: _json(count / y.size) if y.size else None
        for name, count in zip(classes, counts, strict=True)
    }
    result["n"] = int(y.size)
    result["confusion"] = confusion.tolist()
    return result


def target_metrics(spec: TargetSpec, truth: np.ndarray, prediction: np.ndarray) -> Metrics:
    """Metrics of one target: values [n] for regression, probabilities [n, K] for classes.

    Raises:
        ValueError, NotFiniteError: as `regression_metrics` and `classification_metrics`, naming
          the target.
    """
    try:
        if spec.kind == "classification":
            return classification_metrics(truth, prediction, spec.classes)
        return regression_metrics(truth, prediction)
    except (ValueError, NotFiniteError) as error:
        raise type(error)(f"target '{spec.name}': {error}") from error


def metrics_of(
    specs: Sequence[TargetSpec], truth: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
) -> dict[str, Metrics]:
    """`target_metrics` of every target, {target: its metrics}."""
    return {s.name: target_metrics(s, truth[s.name], predictions[s.name]) for s in specs}


def average_r2(
    metrics: Mapping[str, Metrics], specs: Sequence[TargetSpec], identities: bool = True
) -> float | None:
    """Mean R2 over the regression targets whose R2 is defined; None if there is none.

    Args:
        metrics: target name -> its metrics.
        specs: targets to average over; those without metrics are left out.
        identities: whether targets that an identity gives without learning count.
    """
    values = [
        metrics[spec.name]["r2"]
        for spec in specs
        if spec.kind == "regression"
        and spec.name in metrics
        and (identities or spec.identity is None)
        and metrics[spec.name]["r2"] is not None
    ]
    return float(np.mean(values)) if values else None


def average_of(
    metrics: Mapping[str, Metrics], specs: Sequence[TargetSpec]
) -> dict[str, float | None]:
    """Average R2 of a split, with and without targets that an identity gives."""
    return {
        "r2": average_r2(metrics, specs),
        "r2_without_identities": average_r2(metrics, specs, identities=False),
    }
