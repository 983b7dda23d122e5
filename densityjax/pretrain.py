"""Command line: `python -m densityjax.pretrain --config=configs/pretrain/masked.py --workdir=...`.

Learns from densities without labels; `--config.init=WORKDIR` of a training run then starts from it.
Any value of the config can be given: `--config.pretraining.objectives.invariants=0.5`.
"""

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, run, start_logging

config_flags.DEFINE_config_file(
    "config", None, "A config that ships, by its name ('pretrain/masked'), or a file."
)
_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow-config-change", False,
    "Resume although settings differ that leave the state usable (learning rate, epochs, ...).",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; rerunning resumes it.")


def main(argv: list[str]) -> None:
    """Pretrains and prints the losses beside those of trivial predictors.

    Exit status: as of `densityjax.main`.
    """
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax.runtime import distributed

    start_logging()
    with distributed.ending_together():
        run(_pretrain)


def _pretrain() -> None:
    from densityjax.config import check
    from densityjax.runtime import compile_cache, distributed
    from densityjax.training.compatibility import check_processes_agree
    from densityjax.training.pretraining import pretrain, summary

    config = flags.FLAGS.config
    check(config)
    distributed.initialize(config.train.heartbeat_seconds)
    compile_cache.enable()
    check_processes_agree(config)
    result = pretrain(config, _WORKDIR.value, _ALLOW_CONFIG_CHANGE.value)
    if distributed.is_writer():
        print(summary(result))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
