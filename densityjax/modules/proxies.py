"""What an embedding knows of a target: predictions of rows whose chemical system is left out.

A neighbour of the same chemical system has nearly the same label, and says nothing of new ones.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

# Of the constant that is added to a kernel: labels need not be centred, which would tell the mean
# of the rows that are left out.
_OFFSET = 10.0


@dataclasses.dataclass(frozen=True)
class Proxies:
    """Predictions of one kind with the settings that err least over all modules.

    Attributes:
        settings: those that were chosen.
        predictions: [M, n, K] standardised, of rows whose chemical system was left out.
        errors: [M] root mean squared.
    """

    settings: dict[str, Any]
    predictions: np.ndarray
    errors: np.ndarray


def cosines(embedding: np.ndarray) -> np.ndarray:
    """[n, n] cosines of the rows of an embedding [n, E], about its mean over the rows."""
    centred = embedding - embedding.mean(axis=0)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(norm, 1e-12)
    return unit @ unit.T


def without_system(cosine: np.ndarray, systems: np.ndarray) -> np.ndarray:
    """[n, n] cosines; -inf between rows of one chemical system [n], so also of a row and itself."""
    return np.where(systems[:, None] == systems[None, :], -np.inf, cosine)


def neighbour_predictions(
    masked: np.ndarray, labels: np.ndarray, neighbours: int, temperature: float
) -> np.ndarray:
    """Mean of the labels of the nearest rows, with weights exp(cosine / temperature).

    Args:
        masked: [n, n] see `without_system`; each row has one finite entry at least.
        labels: [n, K].
        neighbours: at most so many.

    Returns:
        [n, K].
    """
    nearest = np.argsort(-masked, axis=1, kind="stable")[:, :neighbours]  # [n, k]
    cosine = np.take_along_axis(masked, nearest, axis=1)
    weight = np.exp((cosine - cosine[:, :1]) / temperature)  # [n, k], 0 where masked
    return np.einsum("nk,nkc->nc", weight / weight.sum(1, keepdims=True), labels[nearest])


def ridge_predictions(
    cosine: np.ndarray, systems: np.ndarray, labels: np.ndarray, temperature: float, ridge: float
) -> np.ndarray:
    """Kernel ridge regression, each chemical system predicted by a fit to the others.

    The kernel is exp((cosine - 1) / temperature), a Gaussian on the sphere. All fits come from one
    inverse: with A = (K + ridge)^-1 the residuals of the rows G that are left out are
    A_GG^-1 (A y)_G (Rasmussen and Williams 2006, section 5.4.2, in blocks).

    Args:
        cosine: [n, n].
        systems: [n] str.
        labels: [n, K].

    Returns:
        [n, K].
    """
    kernel = np.exp((cosine - 1) / temperature) + _OFFSET
    inverse = np.linalg.inv(kernel + ridge * np.eye(len(kernel)))
    solved = inverse @ labels  # [n, K]
    found = np.empty_like(labels)
    for rows in system_rows(systems):
        left_out = np.linalg.solve(inverse[np.ix_(rows, rows)], solved[rows])
        found[rows] = labels[rows] - left_out
    return found


def system_rows(systems: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of each chemical system."""
    order = np.argsort(systems, kind="stable")
    _, starts = np.unique(systems[order], return_index=True)
    yield from np.split(order, starts[1:])


def mean_predictions(systems: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[n, K] the mean of the labels [n, K] of all other chemical systems."""
    total, found = labels.sum(axis=0), np.empty_like(labels)
    for rows in system_rows(systems):
        found[rows] = (total - labels[rows].sum(axis=0)) / (len(labels) - len(rows))
    return found


def errors_of(
    predictions: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Root mean squared errors [...] of predictions [..., n, K].

    Args:
        counts: [n] how often each row counts; None for once.
    """
    squares = np.square(predictions - labels).sum(axis=-1)  # [..., n]
    return np.sqrt(np.average(squares, axis=-1, weights=counts))


def find_proxies(
    embeddings: np.ndarray, labels: np.ndarray, systems: np.ndarray, *,
    neighbours: Sequence[int], temperatures: Sequence[float], ridges: Sequence[float],
) -> dict[str, Proxies]:
    """Both kinds of proxies of every module, each with the settings that fit all modules best.

    One choice for all modules, so that few labels do not choose much.

    Args:
        embeddings: [M, n, E].
        labels: [n, K] standardised; rows of two chemical systems at least.
        systems: [n] str.

    Returns:
        {'neighbours' or 'kernel_ridge': proxies}.
    """
    cosine = [cosines(embedding) for embedding in embeddings]
    masked = [without_system(one, systems) for one in cosine]
    candidates = {
        "neighbours": [
            ({"neighbours": count, "temperature": temperature},
             np.stack([neighbour_predictions(one, labels, count, temperature) for one in masked]))
            for count, temperature in itertools.product(neighbours, temperatures)
        ],
        "kernel_ridge": [
            ({"temperature": temperature, "ridge": ridge},
             np.stack([
                 ridge_predictions(one, systems, labels, temperature, ridge) for one in cosine
             ]))
            for temperature, ridge in itertools.product(temperatures, ridges)
        ],
    }
    found = {}
    for kind, tried in candidates.items():
        made = [
            Proxies(settings, predictions, errors_of(predictions, labels))
            for settings, predictions in tried
        ]
        found[kind] = min(made, key=lambda one: float(np.square(one.errors).mean()))
    return found
