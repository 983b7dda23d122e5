"""Ablations: `python -m densityjax.ablation --config=configs/ablations/paper.py --workdir=...`.

Rerunning skips what has finished and goes on with what was stopped. `--shard i/n` trains a share of
the runs; the process that finds all cells complete writes the table. Values of the training config
are under `base`: `--config.base.train.epochs=10`.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from densityjax.runtime.command_line import parse_flags, run, start_logging
from densityjax.runtime.errors import UserError

config_flags.DEFINE_config_file(
    "config", None, "File with get_config(), e.g. configs/ablations/paper.py."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the ablation; rerunning goes on.")
_SHARD = flags.DEFINE_string("shard", "0/1", "i/n: train the i-th of n shares of the runs.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the cells and runs; train nothing.")


def main(argv: list[str]) -> None:
    """Trains this shard's runs; writes the table once all cells are there."""
    start_logging()
    run(_train_and_compare)


def _train_and_compare() -> None:
    # Imported late so that --help and mistakes in flags answer at once.
    from densityjax.ablation.plan import describe, make_plan
    from densityjax.ablation.run import run_ablation
    from densityjax.ablation.table import write_table
    from densityjax.runtime import compile_cache
    from densityjax.training.grouped_training import parse_shard

    compile_cache.enable()
    config, workdir = flags.FLAGS.config, Path(_WORKDIR.value)
    shard, plan = parse_shard(_SHARD.value), make_plan(config)
    if _DRY_RUN.value:
        print(describe(plan, config, shard))
        return
    outcome = run_ablation(config, plan, workdir, shard)
    if not outcome.missing:
        print(*write_table(config, plan, workdir), sep="\n")
    if outcome.failures:
        lines = "\n".join(f"  {name}: {why}" for name, why in outcome.failures.items())
        raise UserError(
            f"{len(outcome.failures)} units or cells failed, run this again to retry:\n{lines}"
        )
    if outcome.missing:
        print(f"{len(outcome.missing)} of {len(plan.cells)} cells wait for other shards' runs")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
