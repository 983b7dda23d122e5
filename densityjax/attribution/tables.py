"""Shares of the atoms, and the facts of a map, as files."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.attribution.question import Question, said_by
from densityjax.attribution.references import WORDS
from densityjax.attribution.result import TOLERANCE, Attribution, of_atoms
from densityjax.density.density import symbol
from densityjax.runtime.csv_cells import protect
from densityjax.runtime.files import replaced

COLUMNS = (
    "atom", "element", "x", "y", "z", "electrons", "share", "spread", "value", "answer_share",
    "answer_value",
)


def per_material(question: Question) -> float:
    """What makes a share of an atom independent of the cell's choice: 1 of extensive targets.

    A target that is no larger for two cells is the mean over the atoms of N times their shares.
    """
    return 1.0 if question.spec.per else float(len(question.material.record["species"]))


def atom_rows(
    question: Question, weights: np.ndarray, of_views: np.ndarray, found: Attribution,
    answer: np.ndarray | None,
) -> list[dict[str, Any]]:
    """A row for each atom.

    Args:
        weights: [N, G, G, G], see `partition.atom_weights`.
        of_views: the same, for the maps of single views.
        answer: [N] shares of what answers, see `shapley`; None where they were not asked for.

    Returns:
        atom (from 1), element; x, y, z fractional; electrons about it; share (its part of the sum
        of the map), spread (of that over views and networks); value (N times the share of an
        intensive target, so that their mean, of an extensive one their sum, is the sum of the map);
        answer_share and answer_value likewise, None without.
    """
    record = question.material.record
    times, volume = per_material(question), abs(np.linalg.det(record["lattice"].astype(float)))
    electrons = of_atoms(weights, record["density"][..., 0].astype(float))
    electrons *= volume / found.values.size
    shares = of_atoms(weights, found.values)
    spread = of_atoms(of_views, found.by_view).std(0) if len(found.by_view) else None
    rows = []
    for atom, (number, place) in enumerate(zip(record["species"], record["positions"])):
        own = None if answer is None else float(answer[atom])
        rows.append({
            "atom": atom + 1, "element": symbol(int(number)),
            **dict(zip("xyz", map(float, place), strict=True)),
            "electrons": float(electrons[atom]), "share": float(shares[atom]),
            "spread": None if spread is None else float(spread[atom]),
            "value": times * float(shares[atom]), "answer_share": own,
            "answer_value": None if own is None else times * own,
        })
    return rows


def write_atoms(path: Path, rows: list[dict[str, Any]]) -> None:
    """CSV of `atom_rows`, numbers in full, what is not known empty."""
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({
                k: repr(v) if isinstance(v, float) else "" if v is None else v
                for k, v in row.items()
            })


def facts_of(
    question: Question, found: Attribution, reference: str, answer: tuple[float, float] | None
) -> dict[str, Any]:
    """What the files of a map mean, JSON-safe.

    Args:
        reference: 'uniform' or 'atoms'.
        answer: of everything that answers, f(x) and f(x0); None where it was not asked for.
    """
    spec, classes = question.spec, question.spec.classes
    facts: dict[str, Any] = {
        "file": protect(question.material.source), "formula": question.material.record["formula"],
        "target": spec.name, "unit": question.unit, "method": found.method,
        "class": classes[question.which] if classes else None,
        "views": question.num_views, "networks": len(question.parts),
        "weights_of_what_answers": question.weights,
        "said_by": said_by(question, of_all=found.method == "occlusion"),
        "prediction": found.prediction,
    }
    if found.reference is not None:
        facts |= {
            "reference": reference, "reference_is": WORDS[reference],
            "reference_prediction": found.reference,
        }
    if found.adds_up:
        facts |= {
            "sum_of_map": float(found.values.sum()),
            "through_magnetisation": found.through_magnetisation,
            "through_descriptors": found.through_descriptors,
            "completeness_error": found.error,
        }
    if answer is not None:
        facts |= {"answer": answer[0], "answer_to_reference": answer[1]}
    return facts


def warnings_of(question: Question, found: Attribution) -> list[str]:
    """What a reader must know before the map is believed."""
    warnings = []
    if found.error is not None and found.error > TOLERANCE:
        warnings.append(
            f"the map and the descriptors miss f(x) - f(x0) by {found.error:.0%} (above "
            f"{TOLERANCE:.0%}): take more --steps"
        )
    if found.adds_up and abs(found.through_descriptors) > abs(found.values.sum()):
        warnings.append(
            f"most of the change ({found.through_descriptors:.4g} of {found.difference:.4g} "
            f"{question.unit}) passes through descriptors of the density, not through the map"
        )
    return warnings
