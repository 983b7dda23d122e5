"""predictions.csv: one row per material and target, written, read and joined here alone.

Columns id, formula, target, truth, prediction, spread, probabilities. An empty truth is a missing
label. Classes are written by name, with their probabilities in class order joined by ';'. Floats
are written in full, so equal files mean equal predictions. Texts that a spreadsheet would take for
a formula have an apostrophe in front, see `runtime.csv_cells`.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from densityjax.runtime.csv_cells import protect, restore
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced
from densityjax.targets import TargetSpec, labelled

COLUMNS = ("id", "formula", "target", "truth", "prediction", "spread", "probabilities")


class PredictionsTableError(UserError):
    """A table of predictions is damaged or of another run; the message names the file."""


@dataclasses.dataclass(frozen=True)
class TargetPredictions:
    """What a run says of one target for n materials.

    Attributes:
        spec: the target.
        ids, formulas: [n] of the materials.
        truth: [n] labels in the target's unit, NaN = missing; classes: int index, -1 = missing.
        prediction: [n] in the target's unit; classes: probabilities [n, K].
        spread: [n] standard deviation over views (classes: of the winning probability).
    """

    spec: TargetSpec
    ids: tuple[str, ...]
    formulas: tuple[str, ...]
    truth: np.ndarray
    prediction: np.ndarray
    spread: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """[n] bool, where there is a label."""
        return labelled(self.spec, self.truth)


def write_table(path: Path, tables: Iterable[TargetPredictions]) -> None:
    """Replaces a table of predictions in one step; targets come in the order given.

    The folder of the table is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for table in tables:
            writer.writerows(_cells(table))


def _cells(table: TargetPredictions) -> Iterator[list[str]]:
    spec = table.spec
    for row, known in enumerate(table.labelled):
        truth, value, probabilities = table.truth[row], table.prediction[row], ""
        if spec.kind == "classification":
            truth = protect(spec.classes[truth]) if known else ""
            prediction = protect(spec.classes[value.argmax()])
            probabilities = ";".join(repr(float(p)) for p in value)
        else:
            truth = repr(float(truth)) if known else ""
            prediction = repr(float(value))
        yield [
            protect(table.ids[row]), protect(table.formulas[row]), protect(spec.name), truth,
            prediction, repr(float(table.spread[row])), probabilities,
        ]


def read_table(path: Path, specs: Sequence[TargetSpec]) -> dict[str, TargetPredictions]:
    """Reads a table of predictions.

    Args:
        specs: of the targets that it may hold.

    Returns:
        Target name -> its predictions, in the order of the file.

    Raises:
        PredictionsTableError: the table is cut, damaged, or holds other targets or classes.
        OSError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8")  # with the line ends that it has
    except UnicodeDecodeError as error:
        raise _damaged(path, f"is not text ({error})") from error
    if not text.endswith("\n"):
        raise _damaged(path, "is empty" if not text else "ends in the middle of a line")
    by_name = {spec.name: spec for spec in specs}
    rows: dict[str, list[list[str]]] = {}
    for line, row in _rows(path, text):
        name = row[2]
        if name not in by_name:
            raise PredictionsTableError(
                f"{path} line {line} has the target '{name}', metrics.json does not: they come "
                "from different runs; run the training command again, which evaluates anew"
            )
        classes = by_name[name].classes
        if classes and row[3] and row[3] not in classes:
            raise _damaged(path, f"line {line} has the class '{row[3]}', not one of '{name}'")
        rows.setdefault(name, []).append(row)
    return {name: _typed(path, by_name[name], found) for name, found in rows.items()}


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(Line number, cells in the order of `COLUMNS`) of each row."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader)
        if missing := [name for name in COLUMNS if name not in header]:
            raise _damaged(path, f"lacks the columns {missing}")
        places = [header.index(name) for name in COLUMNS]
        for cells in reader:
            if len(cells) != len(header):
                raise _damaged(
                    path, f"line {reader.line_num} has {len(cells)} cells, not {len(header)}"
                )
            # Numbers have no apostrophe in front, so that only texts change.
            yield reader.line_num, [restore(cells[place]) for place in places]
    except csv.Error as error:
        raise _damaged(path, f"line {reader.line_num} is no row of a table ({error})") from error


def _typed(path: Path, spec: TargetSpec, rows: Sequence[Sequence[str]]) -> TargetPredictions:
    ids, formulas, _, truth, prediction, spread, probabilities = zip(*rows)
    try:
        if spec.kind == "classification":
            index = {name: place for place, name in enumerate(spec.classes)} | {"": -1}
            truths = np.array([index[name] for name in truth])  # [n]
            values = np.array(
                [[float(p) for p in cell.split(";")] for cell in probabilities]
            ).reshape(len(rows), len(spec.classes))  # [n, K]
        else:
            truths = np.array([float(cell or "nan") for cell in truth])  # [n] in the spec's unit
            values = np.array([float(cell) for cell in prediction])  # [n] in the spec's unit
        spreads = np.array([float(cell or "nan") for cell in spread])  # [n]
    except ValueError as error:
        raise _damaged(path, f"has a cell of '{spec.name}' that is no number ({error})") from error
    return TargetPredictions(spec, ids, formulas, truths, values, spreads)


def join_tables(
    parts: Sequence[Mapping[str, TargetPredictions]], names: Sequence[str]
) -> list[TargetPredictions]:
    """The predictions of several runs, each of its own targets, in the order of `names`."""
    merged = {name: table for part in parts for name, table in part.items()}
    return [merged[name] for name in names if name in merged]


def _damaged(path: Path, what: str) -> PredictionsTableError:
    return PredictionsTableError(
        f"{path} {what}: it is damaged; run the training command again, which evaluates anew"
    )
