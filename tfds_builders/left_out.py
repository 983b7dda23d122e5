"""The table of what did not get into a dataset, and why."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Something that did not become an entry or a label, or was replaced; a row of the table.

    Attributes:
        material_id, task_id: '' where there is none.
        what: 'entry', the name of a target, or 'task' (another one was taken).
        reason: for a person.
    """

    material_id: str
    task_id: str
    what: str
    reason: str


def write_table(path: str | Path, rows: Iterable[Any], kind: type = LeftOut) -> None:
    """Writes instances of a dataclass as CSV, whole or not at all."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.part")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in dataclasses.fields(kind)])
        table.writeheader()
        table.writerows(dataclasses.asdict(row) for row in rows)
    partial.replace(path)
