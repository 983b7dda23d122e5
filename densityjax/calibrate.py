"""Calibrates a finished run for intervals: `python -m densityjax.calibrate --workdir=runs/mine`."""

import argparse
from collections.abc import Sequence

from densityjax.runtime import command_line
from densityjax.training.calibrate import calibrate_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status.

    Raises:
        UserError: the run or its dataset is not there, or damaged.
    """
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.calibrate",
        description="Makes calibration.npz of a finished run, from which densityjax.predict "
        "--coverage makes intervals. Training makes it too, unless config.intervals.calibrate is "
        "False.",
    )
    parser.add_argument("--workdir", required=True, help="directory of a finished run")
    parser.add_argument("--data_dir", default="", help="where its dataset is now, if it was moved")
    options = parser.parse_args(arguments)
    made = calibrate_run(options.workdir, options.data_dir)
    print(f"Calibrated on {made.source}")
    for name, facts in made.facts.items():
        chosen = facts.get("scale") or facts["kind"]
        sides = ", each side by itself" if facts.get("asymmetric") else ""
        print(f"{name}: {facts['rows']} rows, {facts['systems']} systems, {chosen}{sides}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
