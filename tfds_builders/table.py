"""Tables of what happened to each entry of a dataset, as CSV."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from densityjax.runtime.csv_cells import safe_cell
from densityjax.runtime.files import replaced


def write_table(path: str | Path, rows: Iterable[Any], kind: type) -> None:
    """Writes instances of the dataclass `kind`, whole or not at all; only a header without rows."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [field.name for field in dataclasses.fields(kind)]
    with replaced(path) as partial, _open(partial) as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for row in rows:
            cells = dataclasses.asdict(row)
            table.writerow({name: safe_cell(value) for name, value in cells.items()})


def _open(path: Path) -> TextIO:
    # Names of files need not be text.
    return open(path, "w", newline="", encoding="utf-8", errors="backslashreplace")
