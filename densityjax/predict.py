"""Predicts density files: `densityjax predict FILE...`, or with a model of one's own, --model."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from threadpoolctl import threadpool_limits

from densityjax.prediction.materials import expand_folders
from densityjax.prediction.reading import MANY, in_processes
from densityjax.results import interval_cells
from densityjax.results.pretrained import add_model_options, chosen_model
from densityjax.results.run_directory import RunDirectory
from densityjax.runtime import command_line
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced


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
    paths = expand_folders(options.files)
    folder = chosen_model(options)
    if options.out != "-":
        of_runs = [file for own in RunDirectory(folder).tree() for file in own.files]
        check_out(options.out, [*paths, *of_runs])
    with contextlib.ExitStack() as stack:
        reader = None
        # A process of its own, in which JAX has not been asked for anything.
        if len(paths) > MANY and arguments is None:
            # Matrices this small gain nothing from threads, which wait for each other.
            stack.enter_context(threadpool_limits(1, user_api="blas"))
            reader = stack.enter_context(in_processes(paths, folder))
        # A second, for JAX, in which files are read already.
        from densityjax.prediction.model import open_model
        from densityjax.prediction.predict_files import predict_files
        from densityjax.prediction.tables import table_for
        from densityjax.runtime import compile_cache

        compile_cache.enable()
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
        model = open_model(folder, quick=len(paths) <= MANY)
        model.check_coverages(options.coverage)
        file = stack.enter_context(_opened(options.out))
        plain = options.out == "-" and file.isatty()
        table = table_for(file, options.coverage, plain, options.json)
        failed = predict_files(model, paths, table, options.coverage, options.anyway, reader)
    if model.calibration is None:
        print(interval_cells.NONE.format(folder), file=sys.stderr)
    if failed:
        print(f"error: {failed} of {len(paths)} files could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main, failure=2)
