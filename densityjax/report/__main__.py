"""Writes a run's page: `python -m densityjax.report --workdir=runs/elastic`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from densityjax.report.page import ReportError, write_report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m densityjax.report", description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="directory of a finished run")
    try:
        print(write_report(parser.parse_args(arguments).workdir))
    except ReportError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
