"""What is the best use of a number of epochs: one run, its best states, or several members?

    python -m benchmarks.ensembles --config=elastic --workdir=runs/ensembles \
        --json=benchmarks/results/ensembles_cpu.json

Every row costs about the same number of updates, those of one run of config.train.epochs: members
train for their share of them (a member of a rotation has other rows, about as many). --full adds
rows of members that train as long as the one run. Of the one run, with and without the moving
average of its weights (config.train.ema_decay): its last state, its best, the average of the
predictions of its k best, the average of their weights. Choose by the validation column, which for
rotated folds is out-of-fold over all of them, so that it compares with no other row; the test
column is there to be reported.

A rerun skips what has finished. `--config.KEY=VALUE` changes the base, as in training.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from densityjax.config import check
from densityjax.results.averages import average_states
from densityjax.results.metrics import average_of
from densityjax.results.predictions import Predictions, predict_records, split_metrics
from densityjax.results.run_directory import SPLITS
from densityjax.runtime import compile_cache, environment
from densityjax.runtime.command_line import parse_flags, start_logging
from densityjax.runtime.files import replace_json
from densityjax.step import parallel
from densityjax.step.train_state import TrainState
from densityjax.training.checkpoint import Checkpoints
from densityjax.training.ensemble import plan_members, train_ensemble
from densityjax.training.setup import PreparedRun, prepare_run

config_flags.DEFINE_config_file("config", None, "Base: a single run, its epochs the budget.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the runs.", required=True)
_JSON = flags.DEFINE_string("json", None, "Write the result here.")
_MEMBERS = flags.DEFINE_integer("members", 4, "M: members with seeds of their own.")
_BEST = flags.DEFINE_integer("best", 3, "k: states of one run.")
_REPEATS = flags.DEFINE_integer("repeats", 2, "Times that everything is trained, other seeds each.")
_FULL = flags.DEFINE_bool("full", False, "Also members that train as long as the one run.")

Row = dict[str, dict[str, float]]  # split -> average R2, with and without identities


def variants(base: ConfigDict) -> dict[str, ConfigDict]:
    """Configs of the runs, by the names of their folders."""

    def changed(**values: Any) -> ConfigDict:
        config = base.copy_and_resolve_references()
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in values.items()})
        return config.lock()

    epochs, folds = base.train.epochs, 1 + len(base.data.train_folds)
    found = {
        "one": changed(ensemble__epochs=_BEST.value),
        "one_no_ema": changed(ensemble__epochs=_BEST.value, train__ema_decay=0.0),
    }
    for suffix, share in (("", 1), *((("_full", 0),) if _FULL.value else ())):
        for name, count, key, value in (
            ("seeds", _MEMBERS.value, "ensemble__seeds", _MEMBERS.value),
            ("folds", folds, "ensemble__rotate", True),
        ):
            length = max(1, epochs // count) if share else epochs
            found[name + suffix] = changed(train__epochs=length, **{key: value})
    return found


def rows_of(name: str, config: ConfigDict, workdir: Path) -> dict[str, Row]:
    """Trains one of the variants and measures what can be made of it."""
    metrics = train_ensemble(config, workdir, for_prediction=False)
    members = len(plan_members(config))
    if members > 1:
        cost = f" x {config.train.epochs} epochs"
        label = f"{members} {name.removesuffix('_full')}{cost}"
        return {label: {split: metrics["average"][split] for split in SPLITS}}
    label = "" if config.train.ema_decay else ", no moving average"
    return {f"{kind}{label}": row for kind, row in _of_one_run(config, workdir).items()}


def _of_one_run(config: ConfigDict, workdir: Path) -> dict[str, Row]:
    run, count = prepare_run(config, workdir), config.ensemble.epochs
    template = parallel.replicate(run.initial_state())
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        last = checkpoints.restore_latest(template).state
        best = [restored.state for restored in checkpoints.restore_bests(template, count)]
    predict = _predictor(run)
    kinds = {
        "last": [last], "best": best[:1], f"{len(best)} best, predictions averaged": best,
        f"{len(best)} best, weights averaged": [_mean_weights(best)],
    }
    rows: dict[str, Row] = {kind: {} for kind in kinds}
    for split in SPLITS:
        for kind, states in kinds.items():
            predictions = average_states([predict(state, split) for state in states])
            metrics = split_metrics(predictions, run.splits[split], run.specs)
            rows[kind][split] = average_of(metrics, run.specs)
    return rows


def _mean_weights(states: Sequence[TrainState]) -> TrainState:
    """The weights that predict, averaged; the rest is of the first."""
    trees = [state.ema_params for state in states]
    mean = jax.tree.map(lambda *leaves: np.mean([np.asarray(x) for x in leaves], axis=0), *trees)
    return parallel.replicate(states[0].replace(ema_params=mean))


def _predictor(run: PreparedRun) -> Callable[[TrainState, str], Predictions]:
    mapped = parallel.mapped_predict_step(run.task, run.config.view.evaluation_views)
    known: dict[tuple[int, str], Predictions] = {}  # the best state is in several rows

    def predict(state: TrainState, split: str) -> Predictions:
        key = (id(state), split)
        if key not in known:
            known[key] = predict_records(
                mapped, state, run.splits[split], run.specs, run.statistics,
                run.config.train.batch_size, run.config.train.num_threads,
            )
        return known[key]

    return predict


def main(argv: list[str]) -> None:
    """Trains, measures and prints a table."""
    del argv
    start_logging()
    compile_cache.enable()
    base, workdir = flags.FLAGS.config, Path(_WORKDIR.value)
    check(base)
    found: dict[str, list[Row]] = {}
    for repeat in range(_REPEATS.value):
        for name, config in variants(base).items():
            folder = workdir / f"repeat{repeat}" / name
            config.seed = base.seed + repeat * _MEMBERS.value  # no seed in two repeats
            known = folder / "rows.json"
            if not known.exists():
                replace_json(known, rows_of(name, config, folder))
            for label, row in json.loads(known.read_text()).items():
                found.setdefault(label, []).append(row)
    print(table(found))
    if _JSON.value:
        content = environment.describe_environment(base.seed) | {
            "config": json.loads(base.to_json_best_effort()), "rows": found,
        }
        replace_json(Path(_JSON.value), content)


def table(found: dict[str, list[Row]]) -> str:
    """Markdown: mean over repeats, and mean of the differences to the best state of one run."""
    lines = [
        "| average R² | validation | test | test, less that of 'best' | without identities |",
        "|---|---|---|---|---|",
    ]
    for label, rows in found.items():
        values = {split: [row[split]["r2"] for row in rows] for split in SPLITS}
        less = [row["test"]["r2"] - best["test"]["r2"] for row, best in zip(rows, found["best"])]
        without = [row["test"]["r2_without_identities"] for row in rows]
        spread = f" ({min(less):+.3f} to {max(less):+.3f})" if len(less) > 1 else ""
        lines.append(
            f"| {label} | {np.mean(values['validation']):.3f} | {np.mean(values['test']):.3f} | "
            f"{np.mean(less):+.3f}{spread} | {np.mean(without):.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
