"""Writes groups: `python -m densityjax.target_grouping --config=configs/elastic.py --out=FILE`."""

import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, start_logging
from densityjax.target_grouping.select import write_groups


def main(argv: list[str]) -> None:
    """Computes and writes the groups."""
    start_logging()
    command = shlex.join(["python", "-m", "densityjax.target_grouping", *sys.argv[1:]])
    try:
        files = write_groups(flags.FLAGS.config, flags.FLAGS.out, command)
    # Errors of datasets and targets are ValueErrors; a full disk is an OSError.
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print("Written: " + ", ".join(map(str, files)))


if __name__ == "__main__":
    # Only here: densityjax.main defines a flag of the same name.
    config_flags.DEFINE_config_file("config", None, "A training config, e.g. configs/elastic.py.")
    flags.DEFINE_string("out", None, "The groups, e.g. configs/target_groups.py; others beside it.")
    flags.mark_flags_as_required(["config", "out"])
    app.run(main, flags_parser=parse_flags)
