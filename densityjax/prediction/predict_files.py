"""Density files -> rows of a table, batch by batch."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from densityjax.prediction.materials import Material
from densityjax.prediction.model import Model
from densityjax.prediction.reading import MANY, Reader, in_thread
from densityjax.prediction.rows import unreadable
from densityjax.prediction.tables import PlainTable, Table

_TOLD = 3  # files from elsewhere that are named on standard error


def predict_files(
    model: Model, paths: Sequence[Path], table: Table, coverages: Sequence[float] = (0.9,),
    anyway: bool = False, reader: Reader | None = None,
) -> int:
    """Adds the predictions of files to a table, in order.

    A file that cannot be read gets one row, with the reason in its warnings. Files from elsewhere
    are named on standard error, before their rows, unless the table does that itself.

    Args:
        coverages: of the intervals.
        anyway: see `Model.rows`.
        reader: of the files; None for a thread that reads them.

    Returns:
        How many files could not be read.
    """
    many = len(paths) > MANY
    size = min(model.large_batch_size if many else model.batch_size, len(paths))
    failed, others = 0, 0
    with contextlib.ExitStack() as stack:
        reader = reader or stack.enter_context(in_thread(paths, model.needs))
        if many:
            model.compile(size)
        for found in _batches(reader, size, len(paths)):
            readable = [material for _, material in found if isinstance(material, Material)]
            rows = iter(model.rows(readable, coverages, size, anyway))
            for path, material in found:
                failed += isinstance(material, str)
                own = [unreadable(str(path), material)] if isinstance(material, str) else next(rows)
                if own[0].get("elsewhere") and not isinstance(table, PlainTable):
                    others += 1
                    if others <= _TOLD:
                        print(f"from elsewhere: {path}: {own[0]['elsewhere']}", file=sys.stderr)
                table.add(own)
    table.end()
    if others > _TOLD:
        print(f"from elsewhere: {others - _TOLD} files more, see their rows", file=sys.stderr)
    return failed


def _batches(
    reader: Reader, size: int, count: int
) -> Iterator[list[tuple[Path, Material | str]]]:
    for _ in tqdm(range(-(-count // size)), unit="batch", disable=None):
        yield reader.take(size)
