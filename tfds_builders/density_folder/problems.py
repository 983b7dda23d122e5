"""What is wrong with a folder: listed in a table, counted, never dropped silently."""

import collections
import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: 'duplicate id', 'duplicate file', 'duplicate content', 'missing file', 'no density
          named', 'no fold', 'unreadable file', 'density without labels', 'labels missing',
          'impossible label', 'exploding label', 'column not a target'.
        consequence: 'row left out', 'label left out', 'column left out', 'file left out' or
          'kept'.
        message: what is wrong, and the remedy.
        row: line of labels.csv that it is about, the header being line 1; None for none.
        file, material_id, column, value: as labels.csv has them, '' where they do not apply.
    """

    kind: str
    consequence: str
    message: str
    row: int | None = None
    file: str = ""
    material_id: str = ""
    column: str = ""
    value: str = ""


COLUMNS = tuple(field.name for field in dataclasses.fields(Problem))


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes the table, in order of kind and line, or only its header without problems."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        ordered = sorted(problems, key=lambda problem: (problem.kind, problem.row or 0))
        table.writerows(dataclasses.asdict(problem) for problem in ordered)
    partial.replace(path)


def count(problems: Sequence[Problem]) -> dict[str, int]:
    """How many there are of each kind, sorted by kind."""
    return dict(sorted(collections.Counter(problem.kind for problem in problems).items()))


def describe_counts(counts: dict[str, int]) -> str:
    """'2 duplicate id, 1 missing file'."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())
