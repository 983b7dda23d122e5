"""Command line: `python -m densityjax.main --config=configs/elastic.py --workdir=runs/elastic`.

Any value of the config can be given on the command line: `--config.optimizer.learning_rate=3e-4`,
`--config.targets="('bulk_modulus', 'shear_modulus')"`.
"""

import logging
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

config_flags.DEFINE_config_file("config", None, "File with get_config(), e.g. configs/elastic.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; rerunning resumes it.")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; exits with one line on an unknown key or a missing config file."""
    try:
        rest = flags.FLAGS(argv)
        _ = flags.FLAGS.config  # read now, so that a broken file is reported here
    except flags.Error as error:
        sys.exit(f"error: {error}; see --help")
    except OSError as error:  # its text holds tracebacks of the places that were tried
        last = str(error).strip().splitlines()[-1].strip()
        sys.exit(f"error: --config: no such file, or it cannot be loaded: {last}")
    except (AttributeError, KeyError, TypeError) as error:
        # ml_collections raises these for keys that the config does not declare, with close ones.
        text = str(error.args[0] if error.args else error).strip("'\"").replace("\\n", " ")
        sys.exit("error: --config: " + " ".join(text.split()))
    return rest


def main(argv: list[str]) -> None:
    """Trains, evaluates and writes the report."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; see --help")
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax import compile_cache
    from densityjax.train import RunError, train_and_evaluate

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    absl_logging.set_verbosity(absl_logging.WARNING)  # of Orbax and TFDS
    logging.getLogger("jax").setLevel(logging.WARNING)
    compile_cache.enable()
    try:
        train_and_evaluate(flags.FLAGS.config, _WORKDIR.value)
        from densityjax.report import write_report  # its plotting library takes a while to import

        print(f"Report: {write_report(_WORKDIR.value)}")
    # Errors of datasets, targets and reports are ValueErrors; a full disk is an OSError.
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
