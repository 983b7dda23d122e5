"""Makes a folder that predicts elsewhere: `densityjax export --workdir=runs/mine --out=mine`."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from densityjax.prediction.export import export_run, size_of
from densityjax.runtime import command_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status.

    Raises:
        UserError: the run is not finished or damaged, or there is something at --out.
    """
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.export",
        description="Makes a folder from a finished run, with weights, scalers, calibration and a "
        "card, which densityjax predict --model=FOLDER reads on another machine.",
    )
    parser.add_argument("--workdir", required=True, help="directory of a finished run")
    parser.add_argument("--out", required=True, help="folder to write, which is not there yet")
    parser.add_argument("--name", default="", help="of the model (default: that of the folder)")
    parser.add_argument(
        "--half", action="store_true",
        help="keep weights as float16: half the room, predictions change in the fourth digit",
    )
    options = parser.parse_args(arguments)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    out = Path(options.out)
    model = export_run(options.workdir, out, options.name or out.name, options.half)
    print(f"{out}: {', '.join(spec.name for spec in model.specs)}; {size_of(out) / 1e6:.2f} MB")
    if model.calibration is None:
        print("without intervals: densityjax calibrate the run first, if they are wanted")
    return 0


if __name__ == "__main__":
    command_line.run(main)
