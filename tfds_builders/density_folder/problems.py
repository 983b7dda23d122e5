"""What is wrong with a folder: listed in a table, counted, never dropped silently."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfds_builders.table import write_table


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: 'duplicate id', 'duplicate file', 'duplicate content', 'missing file', 'no density
          named', 'no fold', 'unreadable file', 'density without labels', 'labels missing',
          'impossible label', 'exploding label', 'column not a target', 'link not followed',
          'unreadable folder', 'doubtful density', 'read as' (taken in another way than it stands
          there).
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


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes the table, in order of kind and line."""
    ordered = sorted(problems, key=lambda problem: (problem.kind, problem.row or 0))
    write_table(path, ordered, Problem)


def count(problems: Sequence[Problem]) -> dict[str, int]:
    """How many there are of each kind, sorted by kind."""
    return dict(sorted(collections.Counter(problem.kind for problem in problems).items()))


def describe_counts(counts: dict[str, int]) -> str:
    """'2 duplicate id, 1 missing file'."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())
