"""Intervals of materials that are in no dataset, as columns of a table."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.features.composition import compositions
from densityjax.results.calibration import MAKE, Calibration, ClassCalibration, Reference
from densityjax.results.interval_scale import Evidence
from densityjax.results.stack import Cells
from densityjax.targets import TargetSpec

NONE = "no intervals: the run is not calibrated; " + MAKE + "{} does that"
BEYOND = (
    "holds elements that were not trained on: intervals from leaving elements out of the training, "
    "none where that was not done"
)


def evidence_of(
    reference: Reference, specs: Sequence[TargetSpec], values: Mapping[str, np.ndarray],
    views: Mapping[str, np.ndarray], learners: Mapping[str, np.ndarray],
    records: Sequence[Mapping[str, Any]], composition: np.ndarray | None = None,
) -> Evidence:
    """What tells how sure predictions of n records are.

    Args:
        reference: of the calibration.
        specs, values, views, learners: see `Evidence`.
        records: see `density.record.make_record`.
        composition: their features, where they are known.
    """
    lattice = np.stack([record["lattice"] for record in records]).astype(np.float64)  # [n, 3, 3] Å
    if composition is None:
        composition = compositions([record["species"] for record in records], lattice)
    components = reference.reduction(composition)
    electrons = np.array([record["num_electrons"] for record in records], np.float64)
    return Evidence(
        tuple(specs), values, views, learners, reference.distances(components).mean(axis=0),
        components, Cells(electrons, np.abs(np.linalg.det(lattice))),
        np.array([len(record["species"]) for record in records]),
    )


def beyond_training(
    calibration: Calibration, records: Sequence[Mapping[str, Any]]
) -> list[bool]:
    """Of each record, whether it holds an element that the run was not trained on."""
    known = set(calibration.elements.tolist())
    return [not known.issuperset(record["species"].tolist()) for record in records]


def coverages_of(text: str) -> tuple[float, ...]:
    """Numbers between 0 and 1, each once, of '0.8,0.9'.

    Raises:
        argparse.ArgumentTypeError: they are not that.
    """
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers") from error
    if not all(0 < coverage < 1 for coverage in found):
        raise argparse.ArgumentTypeError(f"'{text}': each must be between 0 and 1")
    return found


def interval_columns(coverages: Sequence[float]) -> list[tuple[str, str, str]]:
    """Names of the columns of each coverage, without it where there is one alone."""
    names = ("lower", "upper", "set")
    if len(coverages) == 1:
        return [names]
    return [tuple(f"{name}_{coverage:g}" for name in names) for coverage in coverages]


def interval_cells(
    calibration: Calibration, coverages: Sequence[float], evidence: Evidence,
    beyond: Sequence[bool],
) -> list[list[dict[str, Any]]]:
    """Values of `interval_columns` for each target and material; none for one not calibrated.

    Ends are numbers in the target's unit, sets lists of classes.

    Args:
        beyond: of each material, whether it holds an element that was not trained on: its cells
          come from elements that were left out, and are empty where these do not support them.
    """
    table: list[list[dict[str, Any]]] = []
    for spec in evidence.specs:
        values = evidence.values[spec.name]
        cells: list[dict[str, Any]] = [{} for _ in values]
        own = calibration.targets.get(spec.name)
        sigma = None
        if own is not None and not isinstance(own, ClassCalibration):
            sigma = own.scale(spec.name, evidence)
        for names, coverage in zip(interval_columns(coverages), coverages, strict=True):
            if isinstance(own, ClassCalibration):
                for row, chosen in enumerate(own.sets(values, coverage)):
                    if beyond[row]:
                        continue  # no classes were calibrated so
                    members = [c for c, kept in zip(spec.classes, chosen, strict=True) if kept]
                    cells[row][names[2]] = members
            elif own is not None:
                inside, outside = (
                    np.stack(calibration.interval(spec, evidence, coverage, far, sigma))
                    for far in (False, True)
                )
                low, high = np.where(beyond, outside, inside)
                for row in np.flatnonzero(np.isfinite(high)):
                    cells[row] |= {names[0]: float(low[row]), names[1]: float(high[row])}
        table.append(cells)
    return table
