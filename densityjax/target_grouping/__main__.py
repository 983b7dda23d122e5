"""Computes groups of targets and writes them.

python -m densityjax.target_grouping --config=configs/elastic.py --out=runs/target_groups.py

Writes the config --out, which `config.groups` can name, and beside it the folder runs/target_groups
(or --details) with every number as JSON and pictures of the similarities.
"""

import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, run, start_logging
from densityjax.target_grouping.output import write_groups


def main(argv: list[str]) -> None:
    """The door."""
    del argv  # parse_flags refuses what is not a flag
    start_logging()
    run(_write)


def _write() -> None:
    command = shlex.join(["python", "-m", "densityjax.target_grouping", *sys.argv[1:]])
    options = flags.FLAGS
    files = write_groups(options.config, options.out, command, options.details)
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    # Only here: densityjax.main defines a flag of the same name.
    config_flags.DEFINE_config_file("config", None, "A training config, e.g. configs/elastic.py.")
    flags.DEFINE_string("out", None, "The groups to write, e.g. runs/target_groups.py.")
    flags.DEFINE_string(
        "details", None,
        "Folder of the numbers and pictures; not given: that of --out without .py.",
    )
    flags.mark_flags_as_required(["config", "out"])
    app.run(main, flags_parser=parse_flags)
