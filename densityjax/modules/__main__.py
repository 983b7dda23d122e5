"""Trains modules of properties, and composes them for a new one.

python -m densityjax.modules train --config=configs/modules/elastic.py --hub=DIR [--shard=i/n]
python -m densityjax.modules compose --config=configs/modules/elastic.py --hub=DIR \\
    --config.targets="('debye_temperature',)" --workdir=runs/mine
"""

import logging
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, run, start_logging
from densityjax.runtime.errors import UserError

COMMANDS = ("train", "compose")


def main(argv: list[str]) -> None:
    """The door."""
    del argv  # parse_flags refuses what is not a flag
    start_logging()
    run(_train if flags.FLAGS.command == "train" else _compose)


def _train() -> None:
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax.modules.train import train_modules
    from densityjax.runtime import compile_cache
    from densityjax.training.grouped_training import parse_shard

    options = flags.FLAGS
    if options.workdir is not None:
        raise UserError("--workdir is of compose; train writes to --hub alone")
    shard = parse_shard(options.shard)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    compile_cache.enable()
    print(*train_modules(options.config, Path(options.hub), shard), sep="\n")


def _compose() -> None:
    from densityjax.modules.compose import compose
    from densityjax.runtime import compile_cache

    options = flags.FLAGS
    if options.workdir is None:
        raise UserError("--workdir is missing: the directory of the run of the new target")
    compile_cache.enable()
    workdir = Path(options.workdir)
    compose(
        options.config, Path(options.hub), workdir, options.use_determining,
        not options.start_only,
    )
    if options.start_only:
        print(f"--config.init={workdir / 'start'}")
        return
    from densityjax.report.page import write_report  # its plotting library takes a while

    print(f"Report: {write_report(workdir)}")


def _with_command(arguments: list[str]) -> list[str]:
    """The command line with the sub-command as a flag; exits with one line if it is none."""
    name = arguments[1] if len(arguments) > 1 else ""
    if name in COMMANDS:
        return [arguments[0], f"--command={name}", *arguments[2:]]
    if name.startswith("-"):  # --help
        return arguments
    sys.exit(f"error: expected one of {', '.join(COMMANDS)} after 'modules', got {name!r}")


if __name__ == "__main__":
    # Only here: densityjax.main defines flags of the same names.
    config_flags.DEFINE_config_file("config", None, "A config, e.g. configs/modules/elastic.py.")
    flags.DEFINE_enum("command", None, COMMANDS, "What to do, given before the flags.")
    flags.DEFINE_string("hub", None, "Folder of the modules.")
    flags.DEFINE_string("shard", "0/1", "train: i/n, every n-th module from the i-th on.")
    flags.DEFINE_string("workdir", None, "compose: directory of the run of the new target.")
    flags.DEFINE_bool(
        "use_determining", False,
        "compose: use modules of the new target itself and of targets that determine it, too.",
    )
    flags.DEFINE_bool("start_only", False, "compose: write the start, and train nothing.")
    flags.mark_flags_as_required(["config", "hub", "command"])
    app.run(main, argv=_with_command(sys.argv), flags_parser=parse_flags)
