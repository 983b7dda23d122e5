"""What is wrong with a folder: listed in a table, counted, never dropped silently."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfds_builders.table import write_table

_MOST_LINES = 30  # of reasons on the screen; the table has all
NOTES = ("read as", "bookkeeping")  # kinds of which none is wrong


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: 'duplicate id', 'duplicate file', 'duplicate content', 'missing file', 'no density
          named', 'no fold', 'unreadable file', 'density without labels', 'labels missing',
          'impossible label', 'exploding label', 'column not a target', 'link not followed',
          'unreadable folder', 'row not read', 'no density', 'doubtful density'; and, for no fault,
          'bookkeeping' (columns left out) and 'read as' (in another way than it stands there).
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


def describe(problems: Iterable[Problem]) -> list[str]:
    """Every reason once, a line each: what is said, how often, and the first that it is about."""
    lines = [
        f"  {_of_one(same[0])}" if same[0].kind == "read as" else
        f"  {same[0].kind}: {_of_one(same[0])}"
        + (f" ({len(same)} such, {_spread(same)})" if len(same) > 1 else "")
        for same in _groups(problems)
    ]
    return lines[:_MOST_LINES] + ["  ..."] * (len(lines) > _MOST_LINES)


def reasons(problems: Iterable[Problem]) -> list[str]:
    """As `describe`, for a message on one line."""
    return [
        _of_one(same[0]) + (f" and {len(same) - 1} more like it" if len(same) > 1 else "")
        for same in _groups(problems)
    ]


def _groups(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Problems of the same reason, numbers in it aside: 5.2 and 5.3 electrons are too few, both."""
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        column = "" if problem.kind == "bookkeeping" else problem.column
        reason = re.sub(r"\[.*?\]|[\d.]+", "", problem.message.replace(problem.file or "\0", ""))
        groups.setdefault((problem.kind, column, reason), []).append(problem)
    return list(groups.values())


def _of_one(problem: Problem) -> str:
    """'row 7, mp-5, band_gap: expected a number (found 'x')'."""
    where = [f"row {problem.row}"] if problem.row else []
    where += [_cut(name) for name in (problem.material_id or problem.file, problem.column) if name]
    said = f"{', '.join(where)}: {_cut(problem.message, 400)}" if where else problem.message
    return said + (f" (found '{_cut(problem.value)}')" if problem.value else "")


def _spread(same: Sequence[Problem]) -> str:
    """What a reason is about: columns, or rows."""
    if len({problem.column for problem in same}) > 1:
        return _cut(", ".join(problem.column for problem in same), 200)
    lines = [problem.row for problem in same if problem.row]
    return f"rows {lines[0]} to {lines[-1]}" if lines else f"the last {_cut(same[-1].file)}"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def count(problems: Sequence[Problem]) -> dict[str, int]:
    """How many there are of each kind, sorted by kind."""
    return dict(sorted(collections.Counter(problem.kind for problem in problems).items()))


def describe_counts(counts: dict[str, int]) -> str:
    """'2 duplicate id, 1 missing file'."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items())
