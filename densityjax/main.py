"""Command line: `python -m densityjax.main --config=configs/elastic.py --workdir=runs/elastic`.

Any value of the config can be given on the command line: `--config.optimizer.learning_rate=3e-4`,
`--config.targets="('bulk_modulus', 'shear_modulus')"`.
"""

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, run, start_logging

config_flags.DEFINE_config_file(
    "config", None, "A config that ships, by its name ('elastic'), or a file with get_config()."
)
_SHARD = flags.DEFINE_string(
    "shard", "0/1",
    "i/n: of several members (config.ensemble) and groups of targets (config.groups), train every "
    "n-th from i on.",
)
_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow-config-change", False,
    "Resume although settings differ that leave the state usable (learning rate, epochs, ...); the "
    "result is then not that of one config.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; rerunning resumes it.")


def main(argv: list[str]) -> None:
    """Trains, evaluates and writes the report.

    Exit status: 0 finished; 1 an error, named in one line; 75 ended by SIGTERM or SIGINT, saved,
    and to be started again; 128 + the signal's number after a second one, which ends at once.
    """
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax.runtime import distributed

    start_logging()
    with distributed.ending_together():
        run(_train)


def _train() -> None:
    from densityjax.config import check
    from densityjax.runtime import compile_cache, distributed
    from densityjax.training.compatibility import check_processes_agree
    from densityjax.training.ensemble import train_ensemble
    from densityjax.training.grouped_training import parse_shard

    config, shard = flags.FLAGS.config, parse_shard(_SHARD.value)
    check(config)
    distributed.initialize(config.train.heartbeat_seconds)
    compile_cache.enable()
    check_processes_agree(config)
    result = train_ensemble(config, _WORKDIR.value, shard, _ALLOW_CONFIG_CHANGE.value)
    if result is None or not distributed.is_writer():
        return  # the shard that finishes last joins them
    from densityjax.report.page import write_report  # its plotting library takes a while

    print(f"Report: {write_report(_WORKDIR.value)}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
