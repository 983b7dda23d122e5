"""Writes a run's page: `python -m densityjax.report --workdir=runs/elastic`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from densityjax.report.page import write_report
from densityjax.runtime import command_line


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    parser = argparse.ArgumentParser(prog="python -m densityjax.report", description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="directory of a finished run")
    print(write_report(parser.parse_args(arguments).workdir))


if __name__ == "__main__":
    command_line.run(main)
