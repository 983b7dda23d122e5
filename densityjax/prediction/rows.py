"""Predictions as rows, one per material and target, with their intervals."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.prediction.answers import Answer
from densityjax.prediction.materials import Material
from densityjax.results import interval_cells
from densityjax.results.calibration import Calibration

# prediction: a number in the target's unit, or the name of a class, whose probability has a column
# of its own; unit: 'class' for classes, '' for pure numbers; warnings: a list of sentences; spread:
# standard deviation over views and members (of the class's probability).
COLUMNS = ("file", "formula", "target", "prediction", "unit", "warnings", "spread", "probability")
Row = dict[str, Any]
WITHHELD = "withheld, for the model knows no such electrons; --anyway (in Python anyway=True) tells"


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """Whether a density is of another make than those that a model was trained on.

    Attributes:
        text: how, '' if it is of the same.
        withheld: so that nothing is predicted from it.
    """

    text: str = ""
    withheld: bool = False


def columns_of(coverages: Sequence[float]) -> list[str]:
    """Names of all columns: COLUMNS, and lower, upper and set for each coverage."""
    added = interval_cells.interval_columns(coverages)
    return [*COLUMNS, *(name for names in added for name in names)]


def make_rows(
    answers: Sequence[Answer], materials: Sequence[Material], calibration: Calibration | None,
    coverages: Sequence[float], elsewhere: Sequence[Elsewhere],
) -> list[list[Row]]:
    """Rows of each material, a row per target; a value that there is none of has no key.

    Beside those of `columns_of` a row has 'elsewhere', a text for the head of a table.

    Args:
        answers: to the materials, of all targets.
        calibration: of what answers; without one there are no intervals.
        elsewhere: of each material.
    """
    table = [
        [_row(answer, row, material) for answer in answers]
        for row, material in enumerate(materials)
    ]
    if calibration is not None and materials:
        _add_intervals(table, calibration, coverages, answers, materials)
    for lines, own in zip(table, elsewhere, strict=True):
        for line, answer in zip(lines, answers, strict=True):
            line["elsewhere"] = own.text
            if own.withheld and answer.spec.identity is None:
                _withhold(line)
    return table


def _withhold(line: Row) -> None:
    """Takes what the model says out of a row; what the file gives away stays."""
    for name in set(line) - {"file", "formula", "target", "unit", "warnings", "elsewhere"}:
        del line[name]
    line["warnings"].insert(0, WITHHELD)


def unreadable(source: str, reason: str) -> Row:
    """The row of a file that gives no prediction."""
    return {"file": source, "warnings": [f"error: {reason}"]}


def _row(answer: Answer, row: int, material: Material) -> Row:
    spec, value = answer.spec, answer.values[row]
    found: Row = {
        "file": material.source, "formula": material.record["formula"], "target": spec.name,
        "unit": spec.unit, "warnings": list(answer.warnings[row]),
        "spread": float(answer.spread[row]),
    }
    if spec.kind == "classification":
        return found | {
            "prediction": spec.classes[value.argmax()], "unit": "class",
            "probability": float(value.max()),
        }
    return found | {"prediction": float(value)}


def _add_intervals(
    table: Sequence[Sequence[Row]], calibration: Calibration, coverages: Sequence[float],
    answers: Sequence[Answer], materials: Sequence[Material],
) -> None:
    records: list[Mapping[str, Any]] = [material.record for material in materials]
    known = all("composition" in (material.features or {}) for material in materials)
    composition = np.stack([m.features["composition"] for m in materials]) if known else None
    evidence = interval_cells.evidence_of(
        calibration.reference, [a.spec for a in answers], {a.spec.name: a.values for a in answers},
        {a.spec.name: a.views for a in answers if a.views is not None},
        {a.spec.name: a.learners for a in answers if a.learners is not None}, records,
        composition,
    )
    beyond = interval_cells.beyond_training(calibration, records)
    ends = interval_cells.interval_cells(calibration, coverages, evidence, beyond)
    for row, (lines, far) in enumerate(zip(table, beyond, strict=True)):
        for target, line in enumerate(lines):
            line |= ends[target][row]
            if far:
                line["warnings"].append(interval_cells.BEYOND)
