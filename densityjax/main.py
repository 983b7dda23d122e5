"""Command line: `python -m densityjax.main --config=configs/elastic.py --workdir=runs/elastic`."""

import logging
import sys

from absl import app, flags
from ml_collections import config_flags

config_flags.DEFINE_config_file("config", None, "File with get_config(), e.g. configs/elastic.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; rerunning resumes it.")


def main(argv: list[str]) -> None:
    """Trains, evaluates and writes the report."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax.input_pipeline import DatasetError
    from densityjax.report import write_report
    from densityjax.train import RunError, train_and_evaluate

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("absl", "jax", "orbax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        train_and_evaluate(flags.FLAGS.config, _WORKDIR.value)
    except (RunError, DatasetError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"Report: {write_report(_WORKDIR.value)}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
