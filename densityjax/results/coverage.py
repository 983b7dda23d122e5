"""Whether intervals keep their promise on materials with labels: coverage first, width second."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.results import conformal
from densityjax.results.calibration import Calibration
from densityjax.results.interval_scale import Evidence
from densityjax.targets import TargetSpec, labelled

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_REPLICATES = 1000
_FEWEST = 10  # materials that a coverage is said of


@dataclasses.dataclass(frozen=True)
class Held:
    """Intervals of the labelled materials of one regression target.

    Attributes:
        rows: [n] places of the materials in their split.
        error: [n] |truth - prediction| in the target's unit.
        held: {coverage: bool [n]}.
        width: {coverage: [n]} in the target's unit.
        constant_held, constant_width: [n] at 0.9 of intervals of one width (as trained).
    """

    rows: np.ndarray
    error: np.ndarray
    held: Mapping[float, np.ndarray]
    width: Mapping[float, np.ndarray]
    constant_held: np.ndarray
    constant_width: np.ndarray


def hold(
    calibration: Calibration, spec: TargetSpec, evidence: Evidence, truth: np.ndarray,
    at: float = 0.9,
) -> Held:
    """Intervals at all `LEVELS` that the calibration supports.

    Args:
        truth: [all] labels in the target's unit, NaN = missing.
        at: coverage of the intervals of one width.
    """
    rows = np.flatnonzero(labelled(spec, truth))
    most = conformal.largest_coverage(calibration.targets[spec.name].num_systems)
    held, width = {}, {}
    for level in LEVELS:
        if level > most:
            continue
        low, high = (end[rows] for end in calibration.interval(spec, evidence, level))
        held[level], width[level] = (low <= truth[rows]) & (truth[rows] <= high), high - low
    low, high = (end[rows] for end in calibration.constant_interval(spec, evidence, at))
    return Held(
        rows, np.abs(truth - evidence.values[spec.name])[rows], held, width,
        (low <= truth[rows]) & (truth[rows] <= high), high - low,
    )


def coverage_of(held: np.ndarray, systems: np.ndarray) -> dict[str, Any]:
    """Share of the materials whose interval holds the truth, JSON-safe.

    Args:
        held: bool [n].
        systems: [n] chemical systems, of which the interval of the share is a bootstrap (95 %).

    Returns:
        {'n', 'coverage', 'low', 'high', 'by_system'}; the last counts a system as one.
    """
    if not len(held):
        return {"n": 0}
    _, place = np.unique(systems, return_inverse=True)
    sizes, hits = np.bincount(place), np.bincount(place, held)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (_REPLICATES, len(sizes)))
    shares = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    found = {
        "coverage": held.mean(), "low": low, "high": high, "by_system": (hits / sizes).mean(),
    }
    return {"n": len(held)} | {name: round(float(value), 4) for name, value in found.items()}


def strata(evidence: Evidence, metal: np.ndarray | None) -> dict[str, np.ndarray]:
    """{name: bool [n]} of parts of the materials: fifths of distance, sizes of cell, metals.

    Args:
        metal: [n] 1 metal, 0 not, NaN unknown; None for not known of any.
    """
    count = len(evidence.distance)
    fifth = np.argsort(np.argsort(evidence.distance, kind="stable"), kind="stable") * 5 // count
    found = {f"distance, fifth {k + 1}": fifth == k for k in range(5)}
    atoms = evidence.num_atoms
    edges = ((1, 3), (4, 6), (7, 12), (13, int(max(atoms.max(), 13))))
    found |= {f"{a} to {b} atoms": (atoms >= a) & (atoms <= b) for a, b in edges}
    if metal is not None:
        found |= {"metals": metal == 1, "no metals": metal == 0}
    return found


def measure(held: Held, systems: np.ndarray, parts: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What is said of one target at 0.9 and over the levels, JSON-safe.

    Args:
        systems: [all] chemical systems.
        parts: see `strata`.
    """
    own = systems[held.rows]
    level = 0.9 if 0.9 in held.held else max(held.held)
    kept, width = held.held[level], held.width[level]
    return {
        "level": level, **coverage_of(kept, own),
        "width": float(width.mean()), "constant_width": float(held.constant_width.mean()),
        "narrower": round(float(1 - width.mean() / held.constant_width.mean()), 4),
        "constant_coverage": round(float(held.constant_held.mean()), 4),
        # Whether the width ranks the errors: Spearman's correlation.
        "rank": round(_spearman(width, held.error), 3),
        "by_width": _by_width(width, held.error),
        "levels": {f"{c:g}": round(float(rows.mean()), 4) for c, rows in held.held.items()},
        "parts": {
            name: coverage_of(kept[part[held.rows]], own[part[held.rows]])
            | {"constant": round(float(held.constant_held[part[held.rows]].mean()), 4)}
            for name, part in parts.items() if part[held.rows].sum() >= _FEWEST
        },
    }


def _by_width(width: np.ndarray, error: np.ndarray) -> list[tuple[float, float]]:
    """(mean width, mean error) of each fifth of the materials, the narrowest first."""
    fifths = np.array_split(np.argsort(width, kind="stable"), 5)
    return [(float(width[f].mean()), float(error[f].mean())) for f in fifths if len(f)]


def measure_classes(
    sets: np.ndarray, truth: np.ndarray, systems: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """What is said of a target with classes, JSON-safe.

    Args:
        sets: bool [n, K], the classes in the set of each material.
        truth: int [n].
        systems: [n] chemical systems.
    """
    held = sets[np.arange(len(sets)), truth]
    size = sets.sum(axis=1)
    return coverage_of(held, systems) | {
        "size": float(size.mean()), "single": float((size == 1).mean()),
        "parts": {
            name: coverage_of(held[truth == k], systems[truth == k])
            for k, name in enumerate(classes) if (truth == k).any()
        },
    }


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return 0.0
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
