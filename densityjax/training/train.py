"""Training: `train_and_evaluate(config, workdir)`."""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from densityjax.data.batches import BatchSource, iterate_batches, training_labels
from densityjax.data.dataset import fingerprint as dataset_fingerprint
from densityjax.data.dataset import open_from_config, resolve_targets
from densityjax.data.records import Records, load_records
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.results.applicability import fit_applicability
from densityjax.results.baselines import Rows, baseline_metrics
from densityjax.results.metrics import Metrics, average_r2
from densityjax.results.predictions import (
    Predictions,
    predict_records,
    selection_loss,
    split_metrics,
    write_predictions,
)
from densityjax.runtime import distributed, environment, preemption
from densityjax.runtime.files import flatten
from densityjax.step import parallel
from densityjax.step.optimizer import create_schedule
from densityjax.step.scalers import Statistics, fit_statistics
from densityjax.step.steps import Task
from densityjax.step.task import create_task, field_size
from densityjax.step.train_state import TrainState, create_train_state, train_state_shapes
from densityjax.targets import TargetSpec, dataset_targets, get_specs, specs_to_json
from densityjax.training.checkpoint import Checkpoints, differences, digests
from densityjax.training.metric_log import MetricLog

log = logging.getLogger("densityjax")

# Where a run finds its data and how it reports may change between its parts; its result may not.
_FREE_KEYS = (
    "data.data_dir", "data.build", "data.source", "data.strict", "data.cache_in_memory",
    "train.log_every_steps", "train.num_threads", "train.heartbeat_seconds",
    "train.watchdog_seconds", "grouping.",
)
# Settings under which a state stays usable, though the result is no longer that of one config:
# the checkpoint has the same arrays, batches come in the same order, losses stay comparable.
_CHANGEABLE_KEYS = (
    "optimizer.", "train.epochs", "train.ema_decay", "train.evaluate_every_epochs",
    "train.early_stop_evaluations", "train.checkpoint_every_steps", "train.max_skipped_steps",
    "train.accumulation_steps", "view.evaluation_views", "model.dropout", "model.implementation",
    "model.remat",
)


class RunError(RuntimeError):
    """A run cannot start or go on, for a reason that the message names with its remedy."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a run is made of before its first step."""

    config: ConfigDict
    workdir: Path
    specs: tuple[TargetSpec, ...]
    splits: dict[str, Records]  # train, validation, test
    statistics: Statistics
    task: Task
    source: BatchSource
    train_step: parallel.TrainStep
    compiling: Future[float] | None  # of the step, in another thread; its result is the seconds
    facts: dict[str, Any]  # what run.json says


def train_and_evaluate(
    config: ConfigDict, workdir: str | Path, for_prediction: bool = True,
    allow_config_change: bool = False,
) -> dict[str, Any]:
    """Trains a model, evaluates its best state, and leaves everything in `workdir`.

    Running it again with the same config resumes after the latest checkpoint, or only evaluates.

    Args:
        for_prediction: leave what `densityjax.predict` needs beside the model, which takes a
          prediction of every training material.
        allow_config_change: go on although settings differ that leave the state usable.

    Returns:
        What metrics.json holds.

    Raises:
        RunError, DatasetError, ValueError: a setting, dataset or work directory does not fit, or
          the loss is not finite time after time; the last good state is in the checkpoint.
        CheckpointError: one cannot be written, or is of another run.
        Preempted: by SIGTERM or SIGINT, after saving; the same call resumes.
    """
    with preemption.watch(config.train.watchdog_seconds) as watch:
        return _train_and_evaluate(
            config, Path(workdir), for_prediction, allow_config_change, watch
        )


def _train_and_evaluate(
    config: ConfigDict, workdir: Path, for_prediction: bool, allow_config_change: bool,
    watch: preemption.Never,
) -> dict[str, Any]:
    started, seconds = time.time(), {"imports": round(environment.seconds_since_start(), 2)}
    if not config.targets:
        config = resolve_targets(config)
    run = prepare_run(config, workdir, compile_ahead=True, allow_config_change=allow_config_change)
    initialising = time.time()
    state = jax.block_until_ready(
        create_train_state(
            run.task.model, run.task.tx, run.statistics.arrays(), config.seed,
            field_size(config, run.splits["train"].grid),
        )
    )
    run.facts["seconds"] |= seconds | {"initialise": round(time.time() - initialising, 2)}
    run.facts["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(state.params["model"]))
    # Claimed only now: a config that does not work must not block its directory.
    distributed.write_json(run.workdir / "config.json", json.loads(config.to_json_best_effort()))
    distributed.write_json(run.workdir / "targets.json", specs_to_json(run.specs))
    if distributed.is_writer():
        run.statistics.save(run.workdir / "statistics.json")
    _check_hosts(run)
    checkpoints = Checkpoints(
        run.workdir, identity=identity(run), may_differ=_may_differ(allow_config_change, "config.")
    )
    try:
        state = train(run, state, checkpoints, watch)
        ready = time.time()
        result = evaluate_best(run, state, checkpoints, for_prediction, watch)
    finally:
        checkpoints.close()
    if "finished" not in run.facts:
        run.facts["seconds"]["evaluate"] = round(time.time() - ready, 1)
        run.facts["seconds"]["total"] = round(time.time() - started, 1)
        run.facts["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        run.facts["peak_memory_gib"] = environment.peak_memory_gib()
        distributed.write_json(run.workdir / "run.json", run.facts)
    return result


def identity(run: Run) -> dict[str, Any]:
    """What a state of this run belongs to, under dotted keys: the config and the data."""
    config = _flat(run.config, "config.")
    dataset = {key: run.facts["dataset"][key] for key in ("name", "fingerprint")}
    return config | flatten(dataset, "dataset.")


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """JSON values under dotted keys, as config.json would give them."""
    return flatten(json.loads(config.to_json_best_effort()), prefix)


def check_config(config: ConfigDict) -> None:
    """Raises DisagreementError if another process was started with other settings.

    Before anything else: with other targets, say, processes would wait for each other in vain.
    """
    known = {
        key: value
        for key, value in _flat(config).items()
        if not key.startswith(_may_differ(False))
    }
    distributed.check_equal("config", json.dumps(known, indent=1, sort_keys=True))


def _check_hosts(run: Run) -> None:
    """Raises if the processes of a run do not share its data and its directory."""
    distributed.check_equal("dataset", json.dumps(run.facts["dataset"], indent=1, sort_keys=True))
    distributed.barrier("claimed")
    if not (run.workdir / "statistics.json").exists():
        raise RunError(
            f"{run.workdir} is not the directory that process 0 writes to: --workdir must be on "
            "storage that all hosts mount"
        )


def _may_differ(allow_config_change: bool, prefix: str = "") -> tuple[str, ...]:
    keys = _FREE_KEYS + (_CHANGEABLE_KEYS if allow_config_change else ())
    return tuple(prefix + key for key in keys)


def prepare_run(
    config: ConfigDict, workdir: Path, compile_ahead: bool = False,
    allow_config_change: bool = False,
) -> Run:
    """Loads data, fits statistics on the training rows, builds the task; writes no file.

    Args:
        allow_config_change: see `train_and_evaluate`.
        compile_ahead: compile the training step meanwhile, unless the run has finished.
    """
    started = time.time()
    train_config, data = config.train, config.data
    parallel.check_batch_size(train_config.batch_size, train_config.accumulation_steps)
    folds = {
        "train": tuple(data.train_folds),
        "validation": (data.validation_fold,),
        "test": (data.test_fold,),
    }
    used = [fold for group in folds.values() for fold in group]
    if len(set(used)) != len(used):
        raise RunError(f"config.data uses a fold in two roles: {folds}")
    check_workdir(config, workdir, allow_config_change)
    builder = open_from_config(data)
    specs = get_specs(config.targets, dataset_targets(builder))
    fingerprint, before = dataset_fingerprint(builder), read_facts(workdir)
    if before and before["dataset"]["fingerprint"] != fingerprint:
        raise RunError(
            f"{workdir} was trained on other data: {before['dataset']['fingerprint']} there, "
            f"{fingerprint} now; use another --workdir"
        )

    held_out = tuple(data.held_out_elements)

    def load(role: str, cache_in_memory: bool) -> Records:
        # Held-out elements are tested wherever they are, and are nowhere else.
        if role == "test" and held_out:
            chosen, elements = sorted(used), {"with_any_of": held_out}
        else:
            chosen, elements = folds[role], {"without_elements": held_out}
        return load_records(
            builder, [f"fold{fold}" for fold in chosen], specs,
            channels=config.input.channels, spin_polarized_only=data.spin_polarized_only,
            cache_in_memory=cache_in_memory, **elements,
        )

    # Without densities, at once: their number and size are all that the compiler needs.
    records = load("train", cache_in_memory=False)
    steps_per_epoch = -(-len(records) // train_config.batch_size)
    task = create_task(config, specs, train_config.epochs * steps_per_epoch)
    train_step = parallel.mapped_train_step(task)
    compiling = None
    if (
        compile_ahead
        and "finished" not in before
        # On a GPU the compiler times candidates, which the work beside it would disturb.
        and jax.default_backend() == "cpu"
        and jax.process_count() == 1
    ):
        state, batch = step_shapes(config, task, records.grid)
        shapes = parallel.shapes(state, batch, train_config.accumulation_steps)
        compiling = _in_background(train_step.compile, *shapes)
    splits = {
        role: records
        if role == "train" and not data.cache_in_memory
        else load(role, data.cache_in_memory)
        for role in folds
    }
    statistics = fit_statistics(
        splits["train"], specs, field_transform=config.input.transform,
        log_clamp=config.input.log_clamp, lattice_feature_kind=config.input.lattice_features,
        balance_classes=config.loss.balance_classes,
    )
    labels, mask = training_labels(
        splits["train"], specs, statistics.label_mean, statistics.label_std
    )
    source = BatchSource(
        records=splits["train"], labels=labels, mask=mask, seed=config.seed,
        batch_size=train_config.batch_size, num_steps=train_config.epochs * steps_per_epoch,
        host=jax.process_index(), num_hosts=jax.process_count(),
    )
    workdir.mkdir(parents=True, exist_ok=True)
    facts = environment.describe_environment(config.seed) | {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "dataset": {
            "name": builder.info.full_name,
            "version": str(builder.version),
            "fingerprint": fingerprint,
            **{f"{role}_examples": len(records) for role, records in splits.items()},
            "train_folds": list(data.train_folds),
            "validation_fold": data.validation_fold,
            "test_fold": data.test_fold,
            "held_out_elements": list(held_out),
        },
        "seconds": {"build": round(time.time() - started, 2)},
    }
    return Run(
        config, workdir, specs, splits, statistics, task, source, train_step, compiling, facts
    )


def step_shapes(config: ConfigDict, task: Task, grid: int) -> tuple[TrainState, dict]:
    """Shapes of the state and of this host's batches.

    Args:
        grid: voxels along each axis of the stored densities.

    Returns:
        (state, batch), leaves `jax.ShapeDtypeStruct`; of the batch [B, ...].
    """

    def leaf(*shape: int, dtype: Any = np.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    size, channels = config.train.batch_size // jax.process_count(), config.input.channels
    fields = num_fields(channels, task.field_transform)
    features = NUM_FEATURES[task.lattice_features]
    statistics = {
        "field_mean": leaf(fields),
        "field_std": leaf(fields),
        "feature_mean": leaf(features),
        "feature_std": leaf(features),
        "class_weights": {
            spec.name: leaf(spec.num_outputs)
            for spec in task.specs
            if spec.kind == "classification"
        },
    }
    state = train_state_shapes(task.model, task.tx, statistics, field_size(config, grid))
    batch = {
        "density": leaf(size, grid, grid, grid, channels),
        "lattice": leaf(size, 3, 3),
        "num_electrons": leaf(size),
        "index": leaf(size, dtype=np.int32),
        "labels": leaf(size, len(task.specs)),
        "mask": leaf(size, len(task.specs)),
    }
    return state, batch


def _in_background(function: Callable[..., None], *arguments: Any) -> Future[float]:
    """Calls it in a thread; the future holds the seconds that it took, or its exception."""

    def timed() -> float:
        started = time.time()
        function(*arguments)
        return time.time() - started

    executor = ThreadPoolExecutor(1, "compile")
    future = executor.submit(timed)
    executor.shutdown(wait=False)
    return future


def read_facts(workdir: Path) -> dict[str, Any]:
    """What run.json of an earlier part of the run says, {} without one."""
    path = workdir / "run.json"
    return json.loads(path.read_text()) if path.exists() else {}


def check_workdir(config: ConfigDict, workdir: Path, allow_config_change: bool = False) -> None:
    """Refuses a work directory that holds a run of another config.

    Args:
        allow_config_change: accept other values of keys that leave a state usable.

    Raises:
        RunError: lists the differing keys with both values.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    old = flatten(json.loads(path.read_text()))
    new = _flat(config)
    differing = differences(old, new, _may_differ(allow_config_change))
    if differing:
        safe = not differences(old, new, _may_differ(True))
        raise RunError(
            f"{workdir} holds a run of another config:\n" + "\n".join(differing)
            + "\nuse another --workdir, or remove this one to start over"
            + (", or go on all the same with --allow-config-change" if safe else "")
        )


def train(
    run: Run, state: TrainState, checkpoints: Checkpoints,
    watch: preemption.Never | None = None,
) -> TrainState:
    """Runs the remaining steps; the latest and best states are in `checkpoints` afterwards.

    The loop counts batches: position `step` is the number of the last one, whether it made an
    update or was skipped, so order of data, epochs and the end of the run do not depend on skipped
    batches. `state.step`, which the schedule, the averages and the random views follow, counts
    updates alone. Both are in the checkpoint, and all that a resumed run needs.

    Args:
        watch: asked after each batch whether to save and end.
    """
    watch = watch or preemption.Never()
    config, steps_per_epoch = run.config.train, run.source.steps_per_epoch
    num_steps = run.source.num_steps
    if config.checkpoint_every_steps < 0 or config.max_skipped_steps < 1:
        raise RunError(
            "config.train.checkpoint_every_steps must be at least 0, max_skipped_steps at least 1"
        )
    state = parallel.replicate(state)
    restored = checkpoints.restore_latest(state)
    position = {"step": 0, "best_loss": float("inf"), "best_step": 0, "waited": 0}
    position |= {"seconds": 0.0, "evaluation_seconds": 0.0, "compile_seconds": 0.0}
    position |= {"evaluated": True, "window": [], "skipped": 0, "skipped_in_a_row": 0}
    if restored is not None:
        state, position = restored
        log.info("Resuming %s after step %d", run.workdir, position["step"])
    if distributed.several():  # storage may show one process an older checkpoint than another
        distributed.check_equal("state", json.dumps([position["step"], digests(state)], indent=1))
    stop, started = _stops_early(config, position), time.time() - position["seconds"]
    before = read_facts(run.workdir)
    if "finished" in before and (stop or position["step"] == num_steps):
        run.facts.clear()  # nothing is left to train: what there is describes the training
        run.facts.update(before)
        return state
    predict_step = parallel.mapped_predict_step(run.task, run.config.view.validation_views)
    metric_log = MetricLog(run.workdir, position["step"], position["evaluated"])
    progress = Progress(num_steps, position["step"], steps_per_epoch)
    window = Window(run, metric_log, progress, position)
    batches = parallel.place_ahead(
        iterate_batches(run.source, position["step"], config.num_threads),
        config.accumulation_steps,
    )
    part = {name: run.facts[name] for name in ("started", "commit", "hostname")}
    run.facts["parts"] = [*before.get("parts", []), part | {"after_step": position["step"]}]
    distributed.write_json(run.workdir / "run.json", run.facts)
    if run.compiling is not None:
        run.facts["seconds"]["compile_ahead"] = round(run.compiling.result(), 2)

    def save(best: bool = False, **changes: Any) -> None:
        taken = {
            "seconds": time.time() - started,
            "compile_seconds": position["compile_seconds"] + window.take_compile_seconds(),
        }
        position.update(taken | window.position() | changes)
        # A copy: it is written while the loop goes on.
        checkpoints.save(parallel.to_global(state), position["step"], dict(position), best)

    def evaluate() -> bool:
        """Whether it was not left off; then it is saved."""
        window.flush()
        paused = time.time()
        predictions = predict_records(
            predict_step, state, run.splits["validation"], run.specs, run.statistics,
            config.batch_size, config.num_threads, leave_off=watch.requested,
        )
        if predictions is None:
            return False
        loss = selection_loss(predictions, run.specs, run.task.loss)
        _log_validation(run, metric_log, progress, position["step"], loss, predictions)
        better = loss < position["best_loss"]
        save(
            best=better,
            best_loss=loss if better else position["best_loss"],
            best_step=position["step"] if better else position["best_step"],
            waited=0 if better else position["waited"] + 1,
            evaluation_seconds=position["evaluation_seconds"] + time.time() - paused,
            evaluated=True,
        )
        return True

    first, saved = position["step"] + 1, position["step"]
    try:
        with watch.saving():
            while True:
                if not position["evaluated"] and evaluate():
                    saved, stop = position["step"], _stops_early(config, position)
                step = position["step"]
                ending = watch.reached(step)
                every = config.checkpoint_every_steps
                if step != saved and (ending or (every and step % every == 0)):
                    save()
                    saved = step
                if ending:
                    checkpoints.wait()
                    log.warning("Saved after step %d; the same command goes on from there", step)
                    raise preemption.Preempted
                if stop or step == num_steps:
                    break
                batch = next(batches)
                watch.has_read()
                state, metrics = run.train_step(state, batch)
                position["step"] = step = step + 1
                epoch, rest = divmod(step, steps_per_epoch)
                due = rest == 0 and epoch % config.evaluate_every_epochs == 0
                position["evaluated"] = not (due or step == num_steps)
                window.add(step, metrics)
                if step == first:
                    jax.block_until_ready(metrics)
                    run.facts["seconds"]["first_step"] = round(environment.seconds_since_start(), 2)
                    distributed.write_json(run.workdir / "run.json", run.facts)
    except TooManySkipped as error:
        # No skipped batch changed the state, so it is good; a restart may try as many again.
        save(skipped_in_a_row=0)
        checkpoints.wait()
        raise RunError(str(error)) from None
    finally:
        progress.close()
        metric_log.close()
    checkpoints.wait()
    run.facts["steps"], run.facts["skipped_steps"] = position["step"], position["skipped"]
    seconds = {name: position[f"{name}seconds"] for name in ("", "evaluation_", "compile_")}
    run.facts["seconds"] |= {
        "train": round(seconds[""], 1),
        "validate": round(seconds["evaluation_"], 1),
        "compile": round(seconds["compile_"], 1),
    }
    stepping = seconds[""] - seconds["evaluation_"] - seconds["compile_"]
    run.facts["seconds_per_epoch"] = round(stepping * steps_per_epoch / position["step"], 2)
    return state


def _stops_early(config: ConfigDict, position: dict[str, Any]) -> bool:
    return 0 < config.early_stop_evaluations <= position["waited"]


class TooManySkipped(RunError):
    """The loss or gradient of so many batches in a row was not finite."""


class Window:
    """Collects step metrics on the device and writes their averages some steps later.

    Reading a value of the step just started would make the host wait for it; by the time a window
    is written the next one has been queued. Skipped batches are noticed then, too.
    """

    def __init__(
        self, run: Run, metric_log: MetricLog, progress: "Progress",
        position: dict[str, Any],
    ):
        """Goes on with what `position` gave at some step."""
        self._run, self._log, self._progress = run, metric_log, progress
        self._schedule = create_schedule(run.config.optimizer, run.source.num_steps)
        self._current: list[tuple[int, dict]] = [
            (step, {name: np.asarray(value, kind) for name, (value, kind) in metrics.items()})
            for step, metrics in position["window"]
        ]
        self._previous: list[tuple[int, dict]] = []
        self._skipped, self._in_a_row = position["skipped"], position["skipped_in_a_row"]
        self._checked, self._stopping = position["step"], False
        self._compile_seconds: float | None = None
        self._created = time.time()

    def take_compile_seconds(self) -> float:
        """Time until the first step had been compiled, once; 0 afterwards."""
        seconds, self._compile_seconds = self._compile_seconds or 0.0, 0.0
        return seconds

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Notes one step.

        Raises:
            TooManySkipped: of the steps up to now.
        """
        if self._compile_seconds is None:  # the first call returns once it has been compiled
            self._compile_seconds = time.time() - self._created
        self._current.append((step, metrics))
        self._progress.advance()
        if len(self._current) == self._run.config.train.log_every_steps:
            previous, self._previous, self._current = self._previous, self._current, []
            self._write(previous)

    def flush(self) -> None:
        """Writes everything noted; waits for the device. Raises as `add`."""
        windows, self._previous, self._current = (self._previous, self._current), [], []
        for window in windows:
            self._write(window)

    def position(self) -> dict[str, Any]:
        """JSON values from which another window goes on with the same lines; waits for the device.

        Raises as `add`.
        """
        previous, self._previous = self._previous, []
        self._write(previous)
        self._current = self._fetch(self._current)
        window = [
            (step, {k: (np.asarray(v).tolist(), str(np.asarray(v).dtype)) for k, v in m.items()})
            for step, m in self._current
        ]
        skipped = {"skipped": self._skipped, "skipped_in_a_row": self._in_a_row}
        return {"window": window} | skipped

    def _fetch(self, window: list[tuple[int, dict]]) -> list[tuple[int, dict]]:
        """The same on the host, with skipped batches reported."""
        values = jax.device_get([metrics for _, metrics in window])
        fetched = [(step, value) for (step, _), value in zip(window, values)]
        for step, value in fetched:
            if step <= self._checked:
                continue
            self._checked = step
            self._in_a_row = self._in_a_row + 1 if value["skipped"] else 0
            if value["skipped"]:
                self._skipped += 1
                self._report(step, value)
        return fetched

    def _report(self, step: int, value: dict[str, np.ndarray]) -> None:
        what = f"(loss {value['loss']}, gradient norm {value['grad_norm']})"
        batch, records = self._run.source[step - 1], self._run.splits["train"]
        used = batch["index"][batch["mask"].any(1)]
        ids = ", ".join(records.material_id[np.isin(records.index, used)])
        log.warning("Not finite at step %d %s: update skipped; the batch: %s", step, what, ids)
        limit = self._run.config.train.max_skipped_steps
        if self._in_a_row >= limit and not self._stopping:
            self._stopping = True  # what is noted until then is still to be saved
            raise TooManySkipped(
                f"the training loss is not finite at step {step} {what}, and {limit} batches in a "
                f"row (config.train.max_skipped_steps) were skipped; the last good state stays in "
                f"{self._run.workdir}: look for labels or densities out of range in the batches "
                "named above, or lower config.optimizer.learning_rate, in another --workdir or "
                "with --allow-config-change"
            )

    def _write(self, window: list[tuple[int, dict]]) -> None:
        if not window:
            return
        values = [value for _, value in self._fetch(window) if not value["skipped"]]
        if not values:
            return  # the log says so
        step = window[-1][0]
        sums, counts = (sum(v[k] for v in values) for k in ("target_sum", "target_count"))
        scalars = {
            "loss": float(np.mean([v["loss"] for v in values])),
            "learning_rate": float(self._schedule(max(step - self._skipped - 1, 0))),
            "grad_norm": float(np.mean([v["grad_norm"] for v in values])),
            "skipped_steps": self._skipped,
        }
        for spec, total, count in zip(self._run.specs, sums, counts):
            scalars[f"loss/{spec.name}"] = float(total / count) if count else None
        epoch = step / self._run.source.steps_per_epoch
        self._log.write(step, epoch, "train", scalars)
        self._progress.note(loss=scalars["loss"])


class Progress:
    """A bar with ETA on a terminal, a plain line now and then elsewhere."""

    def __init__(self, num_steps: int, done: int, steps_per_epoch: int):
        self._bar = (
            tqdm(total=num_steps, initial=done, unit="step", dynamic_ncols=True)
            if sys.stderr.isatty() and distributed.is_writer()
            else None
        )
        self._num_steps, self._done, self._first = num_steps, done, done
        self._steps_per_epoch, self._started = steps_per_epoch, time.time()
        self._facts: dict[str, float] = {}

    def advance(self) -> None:
        """Counts one step."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def note(self, **facts: float) -> None:
        """Shows values beside the bar, or with the next line."""
        self._facts |= facts
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in self._facts.items()})

    def line(self) -> None:
        """Prints a plain line, without a terminal; of several processes, one does."""
        if self._bar is not None or not distributed.is_writer():
            return
        taken = time.time() - self._started
        left = taken / max(self._done - self._first, 1) * (self._num_steps - self._done)
        facts = ", ".join(f"{name} {value:.3f}" for name, value in self._facts.items())
        log.info(
            "epoch %d of %d, step %d of %d: %s; %.0f s left",
            self._done // self._steps_per_epoch, self._num_steps // self._steps_per_epoch,
            self._done, self._num_steps, facts, left,
        )

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _log_validation(
    run: Run, metric_log: MetricLog, progress: Progress, step: int, loss: float,
    predictions: Predictions,
) -> None:
    metrics = split_metrics(predictions, run.splits["validation"], run.specs)
    scalars: dict[str, float | None] = {"loss": loss}
    average = average_r2(metrics, run.specs)
    if average is not None:
        scalars["average_r2"] = average
    for spec in run.specs:
        names = ("r2", "mae") if spec.kind == "regression" else ("accuracy", "roc_auc")
        scalars |= {f"{spec.name}/{name}": metrics[spec.name][name] for name in names}
    metric_log.write(step, step / run.source.steps_per_epoch, "validation", scalars)
    shown = {"validation loss": loss}
    if average is not None:
        shown["validation R2"] = average
    progress.note(**shown)
    progress.line()


def evaluate_best(
    run: Run, state: TrainState, checkpoints: Checkpoints, for_prediction: bool = True,
    watch: preemption.Never | None = None,
) -> dict[str, Any]:
    """Evaluates the best state on the validation and test folds, beside the baselines.

    Writes metrics.json, predictions.csv (test), predictions_validation.csv, and, for
    `densityjax.predict`, applicability.npz.

    Args:
        state: any state of the run, as a template.
        watch: asked before each batch whether to leave off.

    Raises:
        Preempted: it was left off; a rerun evaluates again.
    """
    watch = watch or preemption.Never()
    restored = checkpoints.restore_best(state)
    if restored is None:
        raise RunError(f"{run.workdir} has no checkpoint to evaluate: config.train.epochs is 0?")
    best, position = restored
    mapped = parallel.mapped_predict_step(run.task, run.config.view.evaluation_views)

    def predict(records: Records) -> Predictions:
        with watch.saving():
            predictions = predict_records(
                mapped, best, records, run.specs, run.statistics, run.config.train.batch_size,
                run.config.train.num_threads, leave_off=watch.requested,
            )
        if predictions is None:
            log.warning("Evaluation left off; the same command makes it again")
            raise preemption.Preempted
        return predictions

    result: dict[str, Any] = {"average": {}, "baselines": {}}
    rows = {role: baseline_rows(records) for role, records in run.splits.items()}
    for role, name in (("validation", "predictions_validation.csv"), ("test", "predictions.csv")):
        records = run.splits[role]
        log.info("Evaluating %d %s materials", len(records), role)
        predictions = predict(records)
        metrics: dict[str, Metrics] = split_metrics(predictions, records, run.specs)
        result[role] = metrics
        result["average"][role] = {
            "r2": average_r2(metrics, run.specs),
            "r2_without_identities": average_r2(metrics, run.specs, identities=False),
        }
        result["baselines"][role] = baseline_metrics(rows["train"], rows[role], run.specs)
        if distributed.is_writer():
            write_predictions(run.workdir / name, predictions, records, run.specs)
    result |= {
        "best_step": position["best_step"],
        "best_validation_loss": position["best_loss"],
        "view": run.task.view.kind,
        "evaluation_views": run.config.view.evaluation_views,
        "identity_targets": [spec.name for spec in run.specs if spec.identity is not None],
    }
    distributed.write_json(run.workdir / "metrics.json", result)
    if not for_prediction:
        return result
    log.info("Summarising what the model was trained on")
    known = predict(run.splits["train"])
    if distributed.is_writer():
        applicability = fit_applicability(run.splits["train"], known.embedding)
        applicability.save(run.workdir / "applicability.npz")
    return result


def baseline_rows(records: Records) -> Rows:
    """The numbers of each record that the baselines see."""
    return Rows(
        labels=records.labels,
        grid_mean=records.num_electrons / records.volume,
        volume=records.volume,
        moment=records.moment,
    )
