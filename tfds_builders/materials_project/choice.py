"""What a manifest takes and what it leaves out, counted and told to a person."""

import re
from collections import Counter
from collections.abc import Sequence

from tfds_builders.left_out import LeftOut
from tfds_builders.materials_project.entries import Entry

_LINES = 20
# What differs between two rows of the same reason: ids, keys and numbers.
_PARTICULAR = re.compile(r"(chgcars/)?\bmp-\w+(\.json\.gz)?|(?<![A-Za-z_+])-?\d[\d.]*(e[-+]?\d+)?")


def count_reasons(left_out: Sequence[LeftOut]) -> list[tuple[int, str, str]]:
    """(rows, what, reason without its numbers), the most frequent first."""
    counts = Counter((row.what, _PARTICULAR.sub("…", row.reason)) for row in left_out)
    return [(count, what, reason) for (what, reason), count in counts.most_common()]


def reason_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """A line for each reason, and the number of rows that give it."""
    counts = count_reasons(left_out)
    lines = [f"  {count:6}  {what}: {reason}" for count, what, reason in counts[:_LINES]]
    if counts[_LINES:]:
        rest = sum(count for count, *_ in counts[_LINES:])
        lines.append(f"  {rest:6}  of {len(counts) - _LINES} other reasons")
    return lines


def entry_line(entry: Entry) -> str:
    """What is taken of a material, and why this task."""
    origins = entry.origins
    labels = ", ".join(f"{name} {value:.4g}" for name, value in entry.labels.items())
    return (
        f"  {entry.material_id} {entry.formula}: {entry.key}, {entry.size / 1e6:.1f} MB, the "
        f"latest with a density of {origins['static_tasks']} {entry.run_type} static tasks "
        f"({origins['last_updated'][:10]}); {labels}"
    )
