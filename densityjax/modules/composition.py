"""Which modules a new target wants, from its labels: proxies -> weights, or why there are none."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.data.records import Records
from densityjax.modules.proxies import Proxies, errors_of, find_proxies, mean_predictions
from densityjax.modules.weights import bootstrap_weights, resampled_counts, simplex_weights
from densityjax.targets import TargetSpec, labelled, to_intensive

LEVEL = 0.9  # of the intervals


@dataclasses.dataclass(frozen=True)
class Composition:
    """Weights of modules for a new target, and what they were found from.

    Attributes:
        target: the new one.
        labels, systems: how many labelled rows, and chemical systems among them.
        proxies: {kind: proxies}, empty where there are too few labels.
        kind: of the proxies that the weights are from.
        mean_error: of the mean of the labels of other systems.
        error_draws: {kind: [R, M]} errors of the proxies in resamples of the systems.
        weights: [M] that are used; None where the start is taken.
        fitted: [M] of the labels as they are.
        weight_draws: [R, M] in the same resamples.
        reason: why the start is taken; '' where it is not.
    """

    target: str
    modules: tuple[str, ...]
    labels: int
    systems: int
    proxies: Mapping[str, Proxies] = dataclasses.field(default_factory=dict)
    kind: str = ""
    mean_error: float = float("nan")
    error_draws: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: np.ndarray | None = None
    fitted: np.ndarray | None = None
    weight_draws: np.ndarray | None = None
    reason: str = ""


def standardised_labels(records: Records, spec: TargetSpec) -> tuple[np.ndarray, np.ndarray]:
    """(rows with a label [n], their labels [n, K] with mean 0 and spread 1 over all columns).

    Classes are columns of 0 and 1 before they are standardised together.
    """
    values = records.labels[spec.name]
    rows = np.flatnonzero(labelled(spec, values))
    if spec.kind == "classification":
        columns = np.eye(spec.num_outputs)[values[rows]]  # [n, K]
    else:
        intensive = to_intensive(spec, values, records.num_electrons, records.volume)
        columns = intensive[rows, None]  # [n, 1]
    if not len(rows):
        return rows, columns
    columns = columns - columns.mean(axis=0)
    spread = np.sqrt(np.square(columns).sum(axis=1).mean())
    return rows, columns / max(spread, 1e-12)


def too_few(labels: np.ndarray, systems: np.ndarray, least: int) -> str:
    """Why there are too few labels [n, K] to compose from; '' where there are enough."""
    if len(labels) < least:
        return f"{len(labels)} labels are fewer than config.modules.min_labels={least}"
    if len(np.unique(systems)) < 3:
        return "the labels are of fewer than three chemical systems"
    if not np.square(labels).sum() > 0:
        return "all labels are the same"
    return ""


def find_composition(
    target: str, modules: Sequence[str], embeddings: np.ndarray, labels: np.ndarray,
    systems: np.ndarray, settings: ConfigDict, seed: int,
) -> Composition:
    """Weights of modules, unless the labels are too few or no proxy is better than the mean.

    Args:
        modules: names.
        embeddings: [M, n, W] of the labelled rows.
        labels: [n, K] standardised.
        systems: [n] str.
        settings: config.modules.
    """
    few = too_few(labels, systems, settings.min_labels)
    found = Composition(target, tuple(modules), len(labels), len(np.unique(systems)), reason=few)
    if few:
        return found
    proxies = find_proxies(
        embeddings.astype(np.float64), labels, systems, neighbours=tuple(settings.neighbours),
        temperatures=tuple(settings.temperatures), ridges=tuple(settings.ridges),
    )
    kinds = proxies if settings.proxy == "best" else (settings.proxy,)
    kind = min(kinds, key=lambda one: float(np.square(proxies[one].errors).mean()))
    mean_error = float(errors_of(mean_predictions(systems, labels), labels))
    counts = list(resampled_counts(systems, settings.bootstraps, seed))
    found = dataclasses.replace(
        found, proxies=proxies, kind=kind, mean_error=mean_error,
        error_draws={
            name: np.stack([errors_of(own.predictions, labels, one) for one in counts])
            for name, own in proxies.items()
        },
    )
    if all(own.errors.min() >= mean_error for own in proxies.values()):
        return dataclasses.replace(found, reason="every proxy is worse than the mean of the labels")
    predictions = proxies[kind].predictions
    fitted = simplex_weights(predictions, labels)
    draws = bootstrap_weights(predictions, labels, counts)
    return dataclasses.replace(
        found, weights=draws.mean(axis=0) if settings.resampled else fitted, fitted=fitted,
        weight_draws=draws,
    )


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low [M], high [M]) percentiles of [R, M] at LEVEL."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def to_json(found: Composition) -> dict[str, Any]:
    """What compose.json says of it."""
    content: dict[str, Any] = {
        "target": found.target, "labels": found.labels, "systems": found.systems,
        "fallback": found.reason, "proxy": found.kind,
        "mean_error": None if not found.proxies else found.mean_error,
        "settings": {kind: own.settings for kind, own in found.proxies.items()},
        "interval": LEVEL, "modules": {},
    }
    for place, name in enumerate(found.modules):
        row: dict[str, Any] = {}
        if found.weights is not None and found.weight_draws is not None:
            low, high = interval(found.weight_draws)
            row = {
                "weight": float(found.weights[place]), "low": float(low[place]),
                "high": float(high[place]), "fitted": float(found.fitted[place]),
            }
        for kind, own in found.proxies.items():
            low, high = interval(found.error_draws[kind])
            row[kind] = {
                "error": float(own.errors[place]), "low": float(low[place]),
                "high": float(high[place]),
            }
        content["modules"][name] = row
    return content
