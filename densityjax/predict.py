"""Predicts density files: `densityjax predict FILE...`, or with a model of one's own, --model."""

import argparse
import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TextIO

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from densityjax.prediction.materials import Material, expand_folders
from densityjax.prediction.model import Model, open_model
from densityjax.prediction.reading import processes, read_ahead
from densityjax.prediction.rows import unreadable
from densityjax.prediction.tables import CsvTable, JsonTable, PlainTable, Table
from densityjax.results import interval_cells
from densityjax.results.pretrained import add_model_options, chosen_model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import command_line, compile_cache
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced

QUICK = 30  # files, for which compilation takes longer than what it saves
_TOLD = 3  # files from elsewhere that are named on standard error


def predict_files(
    model: Model, paths: Sequence[Path], table: Table, coverages: Sequence[float] = (0.9,),
    anyway: bool = False, pool: Executor | None = None,
) -> int:
    """Adds the predictions of files to a table, in order.

    A file that cannot be read gets one row, with the reason in its warnings. Files from elsewhere
    are named on standard error, before their rows, unless the table does that itself.

    Args:
        coverages: of the intervals.
        anyway: see `Model.rows`.
        pool: that reads the files, see `reading.processes`; None for a thread.

    Returns:
        How many files could not be read.
    """
    many = len(paths) > QUICK
    size = min(model.large_batch_size if many else model.batch_size, len(paths))
    failed, others = 0, 0
    compiled = functools.partial(model.compile, size) if many else lambda: None
    batches = read_ahead(paths, size, model.needs, pool, meanwhile=compiled)
    for chosen, found in tqdm(batches, unit="batch", total=-(-len(paths) // size), disable=None):
        readable = [material for material in found if isinstance(material, Material)]
        rows = iter(model.rows(readable, coverages, size, anyway))
        for path, material in zip(chosen, found, strict=True):
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


def check_out(out: str, inputs: Sequence[Path]) -> None:
    """Raises UserError if the table would take the place of a file that is read."""
    for path in inputs:
        same = False
        with contextlib.suppress(OSError, ValueError):  # of files that are not or cannot be there
            same = os.path.realpath(out) == os.path.realpath(path) or os.path.samefile(out, path)
        if same:
            raise UserError(
                f"--out={out} is {path}, which is an input: give the table another name"
            )


@contextlib.contextmanager
def _opened(out: str) -> Iterator[TextIO]:
    """Standard output for '-'; a file takes its name once the table is whole."""
    if out == "-":
        yield sys.stdout
        return
    target = Path(os.path.realpath(out))  # of a link, what it points to is replaced
    try:
        if target.exists() and not target.is_file():  # /dev/stdout, a pipe
            with target.open("w", newline="", encoding="utf-8") as file:
                yield file
            return
        with replaced(target) as part, part.open("w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error


def _table(options: argparse.Namespace, file: TextIO) -> Table:
    """JSON where it is asked for, an aligned table on a terminal, else CSV."""
    if options.json:
        return JsonTable(file)
    if options.out == "-" and file.isatty():
        return PlainTable(file, options.coverage)
    return CsvTable(file, options.coverage)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.predict",
        description="Predicts properties from charge densities with a trained model; without "
        "--model or --workdir with one that ships.",
        epilog="Exit status: 0 all predicted, 1 some files could not be read (their rows say why), "
        "2 nothing could be done.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--out", default="-",
        help="CSV to write; '-' (default) = standard output, on a terminal as an aligned table",
    )
    parser.add_argument("--json", action="store_true", help="write JSON, an object per file")
    parser.add_argument(
        "--coverage", type=interval_cells.coverages_of, default=(0.9,), metavar="C[,C...]",
        help="how often intervals hold the truth: 0.9 (default), or several, 0.8,0.9",
    )
    parser.add_argument(
        "--anyway", action="store_true",
        help="predict, too, from densities with other valence electrons than those trained on",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="VASP densities, Materials Project JSON, cube or XSF, plain or compressed; a folder "
        "stands for its density files",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status, 0 or 1.

    Raises:
        UserError: nothing could be done.
    """
    options = _parser().parse_args(arguments)
    compile_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    paths = expand_folders(options.files)
    folder = chosen_model(options)
    if options.out != "-":
        of_runs = [file for own in RunDirectory(folder).tree() for file in own.files]
        check_out(options.out, [*paths, *of_runs])
    with contextlib.ExitStack() as stack:
        pool = None
        if len(paths) > QUICK:
            # Matrices this small gain nothing from threads, which wait for each other.
            stack.enter_context(threadpool_limits(1, user_api="blas"))
            if arguments is None:  # a process of its own, in which JAX has not started
                pool = stack.enter_context(processes(paths))
        model = open_model(folder, quick=len(paths) <= QUICK)
        model.check_coverages(options.coverage)
        table = _table(options, stack.enter_context(_opened(options.out)))
        failed = predict_files(model, paths, table, options.coverage, options.anyway, pool)
    if model.calibration is None:
        print(interval_cells.NONE.format(folder), file=sys.stderr)
    if failed:
        print(f"error: {failed} of {len(paths)} files could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main, failure=2)
