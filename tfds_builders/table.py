"""Tables of what happened to each entry of a dataset, as CSV."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_table(path: str | Path, rows: Iterable[Any], kind: type) -> None:
    """Writes instances of the dataclass `kind`, whole or not at all; only a header without rows."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        columns = [field.name for field in dataclasses.fields(kind)]
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(dataclasses.asdict(row) for row in rows)
    partial.replace(path)
