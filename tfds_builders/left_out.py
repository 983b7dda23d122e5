"""What did not get into a dataset, and why."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from tfds_builders.table import write_table


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


def report_left_out(path: Path, rows: Sequence[LeftOut], of: str) -> None:
    """Writes the table and, if anything was left out, says how many.

    Args:
        of: '11 rows were', between the number and 'left out'.
    """
    write_table(path, rows, LeftOut)
    if rows:
        print(f"{len(rows)} of {of} left out; see {path}", file=sys.stderr)
