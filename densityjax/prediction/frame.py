"""Rows of predictions as a table of pandas."""

from collections.abc import Iterable, Sequence

import pandas as pd

from densityjax.prediction.rows import Row
from densityjax.results.interval_cells import interval_columns

_NUMBERS = ("lower", "upper", "spread", "probability")


def frame_columns(coverages: Sequence[float]) -> list[str]:
    """Names of the columns, in order; of several coverages 'lower_0.8' and so on."""
    ends = [name for names in interval_columns(coverages) for name in names]
    return [
        "file", "formula", "target", "prediction", "unit", *ends, "spread", "probability",
        "warnings",
    ]


def frame_of(rows: Iterable[Row], coverages: Sequence[float]) -> pd.DataFrame:
    """A table with the columns of `frame_columns` and a row per row.

    Numbers are float64, NaN where there is none; a prediction is a class's name for classes. A
    set is a tuple of classes, None where there is none. Warnings are joined by '; ', '' for none.
    """
    found = [
        row | {"warnings": "; ".join(row["warnings"])} | {
            name: tuple(value) for name, value in row.items() if name.startswith("set")
        }
        for row in rows
    ]
    columns = {
        name: [row.get(name) for row in found] for name in frame_columns(coverages)
    }
    frame = pd.DataFrame(columns)
    numbers = [name for name in columns if name.startswith(_NUMBERS)]
    if not any(isinstance(value, str) for value in columns["prediction"]):
        numbers.append("prediction")
    return frame.astype(dict.fromkeys(numbers, float))
