"""Rows of predictions as people and programs read them: CSV, JSON, an aligned table."""

import csv
import json
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from densityjax.prediction.rows import Row, columns_of
from densityjax.results.interval_cells import interval_columns
from densityjax.runtime.csv_cells import protect


class Table(Protocol):
    """What rows are written to, those of one file at a time."""

    def add(self, rows: Sequence[Row]) -> None:
        """Writes the rows of a file."""

    def end(self) -> None:
        """Writes what comes after the last."""


def table_for(file: TextIO, coverages: Sequence[float], plain: bool, as_json: bool) -> Table:
    """JSON where it is asked for, an aligned table for people, else CSV."""
    if as_json:
        return JsonTable(file)
    return PlainTable(file, coverages) if plain else CsvTable(file, coverages)


class CsvTable:
    """Numbers in full, lists joined by '; ' (warnings) or ';' (classes), no formula in a cell."""

    def __init__(self, file: TextIO, coverages: Sequence[float]):
        self._writer = csv.DictWriter(
            file, columns_of(coverages), restval="", extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def add(self, rows: Sequence[Row]) -> None:
        """Writes the rows of a file."""
        self._writer.writerows({name: _cell(name, row[name]) for name in row} for row in rows)

    def end(self) -> None:
        """Nothing: a row is whole."""


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        value = ("; " if name == "warnings" else ";").join(value)
    return protect(value)


class JsonTable:
    """A list with an object per file: file, formula, elsewhere, error, warnings, predictions.

    A prediction has the keys of a row that are not the file's; a missing value has no key.
    """

    def __init__(self, file: TextIO):
        self._file = file
        self._between = "[\n"

    def add(self, rows: Sequence[Row]) -> None:
        """Writes the object of a file."""
        first = rows[0]
        found: dict[str, Any] = {
            "file": first["file"], "formula": first.get("formula"),
            "elsewhere": first.get("elsewhere") or None, "error": None,
            "warnings": _warnings(rows), "predictions": [],
        }
        if "target" in first:
            found["predictions"] = [
                {name: value for name, value in row.items() if name not in found} for row in rows
            ]
        else:
            found |= {"error": first["warnings"][0].removeprefix("error: "), "warnings": []}
        self._file.write(self._between + json.dumps(found, ensure_ascii=False))
        self._between = ",\n"

    def end(self) -> None:
        """Closes the list."""
        self._file.write("\n]\n" if self._between != "[\n" else "[]\n")


class PlainTable:
    """For a terminal: four significant digits, an aligned line per target, warnings below."""

    def __init__(self, file: TextIO, coverages: Sequence[float]):
        self._file = file
        self._coverages = coverages

    def add(self, rows: Sequence[Row]) -> None:
        """Writes the table of a file."""
        first = rows[0]
        about = [first.get("formula", ""), first.get("elsewhere", "")]
        lines = [": ".join([first["file"], *filter(None, ["; ".join(filter(None, about))])])]
        if "target" in first:
            names = interval_columns(self._coverages)
            heads = [f"{100 * coverage:g} % interval" for coverage in self._coverages]
            body = [
                [row["target"], _value(row), *(_interval(row, own) for own in names), row["unit"]]
                for row in rows
            ]
            lines += [
                f"  {line}" for line in aligned([["target", "value", *heads, "unit"], *body])
            ]
        told = first.get("elsewhere", "")  # in the first line
        lines += [f"  {_warning(text)}" for text in _warnings(rows) if text not in told]
        self._file.write("\n".join(lines) + "\n\n")

    def end(self) -> None:
        """Nothing: a table is whole."""


def _warnings(rows: Sequence[Row]) -> list[str]:
    """Those of any row of a file, each once: targets may have their own."""
    return list(dict.fromkeys(text for row in rows for text in row["warnings"]))


def _value(row: Row) -> str:
    if "probability" in row:
        return f"{row['prediction']} ({row['probability']:.2f})"
    return _number(row["prediction"]) if "prediction" in row else "withheld"


def _number(value: float) -> str:
    """Four significant digits, without an exponent where that is short."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _interval(row: Row, names: tuple[str, str, str]) -> str:
    lower, upper, chosen = names
    if chosen in row:
        return ", ".join(row[chosen])
    return f"{_number(row[lower])} to {_number(row[upper])}" if lower in row else ""


def _warning(text: str) -> str:
    return text if text.startswith("error: ") else f"warning: {text}"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first row is its head; columns begin below each other."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table
    ]
