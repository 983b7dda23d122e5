"""Predictions and accuracy for every example of a split, each exactly once."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import log_softmax, softmax

from densityjax.data.batches import evaluation_batches, training_labels
from densityjax.data.free_targets import RecordTargets
from densityjax.data.records import PerAtom, Records
from densityjax.features.record_features import PER_ATOM, record_features
from densityjax.model.losses import LossConfig
from densityjax.results.metrics import Metrics, target_metrics
from densityjax.results.predictions_table import TargetPredictions, write_table
from densityjax.step.members import PredictMembers
from densityjax.step.parallel import PyTree, gather_rows, predict_batch
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import TrainState
from densityjax.targets import TargetSpec, from_intensive


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model says of n materials.

    Attributes:
        values: {target: [n] in the target's unit, or class probabilities [n, K]}, view average.
        spread: {target: [n]} standard deviation over views (classes: of the winning probability).
        loss: {target: [n]} standardised squared error or cross-entropy, NaN = label missing; empty
          where labels are not read.
        embedding: [n, E] what the heads see, averaged over views.
    """

    values: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    embedding: np.ndarray


def physical(
    spec: TargetSpec, raw: np.ndarray, mean: float, std: float, num_electrons: np.ndarray,
    volume: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """View average and spread of one target in physical units.

    Args:
        raw: [n, V, width] standardised values or logits of each view.
        mean, std: of the intensive training labels.
        num_electrons, volume: [n] of the cell; Å^3.

    Returns:
        (values [n] or probabilities [n, K], standard deviation over views [n]).
    """
    if spec.kind == "classification":
        probabilities = softmax(raw.astype(np.float64), axis=-1)  # [n, V, K]
        average = probabilities.mean(1)
        winner = average.argmax(-1)  # [n]
        of_winner = np.take_along_axis(probabilities, winner[:, None, None], axis=2)[:, :, 0]
        return average, of_winner.std(1)
    intensive = raw[..., 0].astype(np.float64) * std + mean  # [n, V]
    values = from_intensive(spec, intensive, num_electrons[:, None], volume[:, None])
    return values.mean(1), values.std(1)


def to_physical(
    raw: Mapping[str, np.ndarray], specs: Sequence[TargetSpec], statistics: Statistics,
    num_electrons: np.ndarray, volume: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`physical` of every target: (values, spread), each by target name.

    Args:
        raw: {target: [n, V, width]} as a model gives them.
        statistics: of the model's run, in the order of `specs`; auxiliary targets may follow.
        num_electrons, volume: [n] of the cell; Å^3.
    """
    values, spread = {}, {}
    for spec, mean, std in zip(specs, statistics.label_mean, statistics.label_std):
        values[spec.name], spread[spec.name] = physical(
            spec, raw[spec.name], mean, std, num_electrons, volume
        )
    return values, spread


def unlabelled_records(
    made: Sequence[Mapping[str, Any]], specs: Sequence[TargetSpec], channels: int,
    features: Mapping[str, Any] | None = None,
) -> Records:
    """Materials that are in no dataset, as `predict_records` takes them: no label is known.

    Args:
        made: n results of `density.record.make_record` on one grid; at least one.
        specs: targets to predict.
        channels: that the model takes, 1 or 2; a missing magnetisation is zero.
        features: of the records, see `features_of`; None where no model needs them.
    """
    size, species = len(made), [record["species"] for record in made]
    num_atoms = np.array([len(numbers) for numbers in species])
    unnamed = np.full(size, "")
    lattice = np.stack([record["lattice"] for record in made]).astype(np.float64)  # [n, 3, 3] Å
    return Records(
        source=made,
        rows=np.arange(size),
        channels=channels,
        grid=made[0]["density"].shape[0],
        index=np.arange(size),
        material_id=unnamed,
        formula=np.array([record["formula"] for record in made]),
        chemical_system=np.array([record["chemical_system"] for record in made]),
        code=unnamed,
        lattice=lattice,
        num_electrons=np.array([record["num_electrons"] for record in made], np.float64),
        moment=np.array([_moment(record) for record in made]),
        species=PerAtom(
            np.concatenate(species).astype(np.int32), np.cumsum(num_atoms), num_atoms
        ),
        labels={
            spec.name: np.full(size, -1)
            if spec.kind == "classification"
            else np.full(size, np.nan)
            for spec in specs
        },
        densities=None,
        features=features or {},
        descriptors=np.zeros((size, 0), np.float32),
    )


def features_of(made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Features of records, see `unlabelled_records`."""
    return join_features([record_features(record) for record in made])


def join_features(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """`record_features` of records as `data.records` has those of a dataset."""
    columns: dict[str, Any] = {}
    for name in found[0]:
        values = [features[name] for features in found]
        if name not in PER_ATOM:
            columns[name] = np.stack(values)
            continue
        size = np.array([len(value) for value in values])
        columns[name] = PerAtom(np.concatenate(values), np.cumsum(size), size)
    return columns


def _moment(record: Mapping[str, Any]) -> float:
    """|integral of the magnetisation|, μB; 0 without one."""
    if record["density"].shape[-1] == 1:
        return 0.0
    volume = abs(np.linalg.det(np.asarray(record["lattice"], np.float64)))  # Å^3
    return abs(float(record["density"][..., 1].mean())) * volume


def predict_records(
    mapped: Callable, state: TrainState, records: Records, specs: Sequence[TargetSpec],
    statistics: Statistics, batch_size: int, num_threads: int = 2,
    leave_off: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Predictions of all records by `parallel.mapped_predict_step`, see `run_over`.

    Args:
        batch_size, num_threads, leave_off: see `run_over`.
    """
    found = run_over(mapped, state, records, batch_size, num_threads, leave_off)
    if found is None:
        return None
    outputs, embedding = found
    count = len(specs)  # auxiliary targets, which come last, are no results
    labels, mask = training_labels(
        records, specs, statistics.label_mean[:count], statistics.label_std[:count]
    )
    values, spread = to_physical(
        outputs, specs, statistics, records.num_electrons, records.volume
    )
    loss = {}
    for column, spec in enumerate(specs):
        average, label = outputs[spec.name].mean(1), labels[:, column]  # [n, width], [n]
        if spec.kind == "regression":
            error = np.square(average[:, 0] - label)
        else:
            scores = log_softmax(average.astype(np.float64), axis=-1)
            error = -np.take_along_axis(scores, label.astype(int)[:, None], axis=1)[:, 0]
        loss[spec.name] = np.where(mask[:, column] > 0, error, np.nan)
    return Predictions(values, spread, loss, embedding)


def run_over(
    mapped: Callable, state: TrainState, records: Records, batch_size: int, num_threads: int = 2,
    leave_off: Callable[[], bool] = lambda: False, free: RecordTargets | None = None,
) -> PyTree | None:
    """Runs a mapped step over all records, in order, decoded in threads.

    Each process takes its share of the records, and all get what comes of all.

    Args:
        mapped: see `parallel.predict_batch`.
        batch_size: over all processes.
        leave_off: asked before each batch; None is returned once it says so.
        free: see `evaluation_batches`.

    Returns:
        Leaves [n, ...].
    """
    size = max(batch_size // jax.process_count(), 1)
    rows = share_of_rows(len(records), jax.process_index(), jax.process_count())
    parts = []
    for batch in evaluation_batches(records, size, num_threads, rows, free):
        if leave_off():
            return None
        parts.append(predict_batch(mapped, state, batch, size))
    own = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    # The last records stand for those that a share lacks, and are dropped here.
    return jax.tree.map(lambda leaf: leaf[: len(records)], gather_rows(own))


def predict_members(
    program: PredictMembers, states: PyTree, records: Sequence[Records],
    specs: Sequence[TargetSpec], statistics: Sequence[Statistics], batch_size: int,
    num_threads: int = 2,
) -> list[Predictions]:
    """What M states of one task say of the same materials, in one process.

    Args:
        states: see `PredictMembers.place`.
        records: for each state; they differ in their descriptors alone.
        statistics: of each state.

    Returns:
        Of each state; without losses, for no label is read.
    """
    descriptors = np.stack([own.descriptors for own in records], axis=1)  # [n, M, D]
    first = records[0]
    seen = dataclasses.replace(first, descriptors=descriptors)
    parts = [
        predict_batch(program, states, batch, batch_size)
        for batch in evaluation_batches(seen, batch_size, num_threads)
    ]
    outputs, embedding = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    found = []
    for member, own in enumerate(statistics):
        raw = {name: leaf[:, member] for name, leaf in outputs.items()}
        values, spread = to_physical(raw, specs, own, first.num_electrons, first.volume)
        found.append(Predictions(values, spread, {}, embedding[:, member]))
    return found


def compile_members(
    program: PredictMembers, states: PyTree, grid: int, channels: int, descriptors: tuple[int, int],
    batch_size: int,
) -> None:
    """Compiles what `predict_members` runs with the same states and such materials.

    Args:
        states: see `PredictMembers.place`.
        grid, channels: of a density [G, G, G, C].
        descriptors: (M, numbers per material).
    """
    devices = jax.local_device_count()
    lead = (devices, -(-batch_size // devices))
    tails = {
        "density": (grid, grid, grid, channels), "lattice": (3, 3), "num_electrons": (),
        "descriptors": descriptors,
    }
    batch = {k: jax.ShapeDtypeStruct((*lead, *tail), np.float32) for k, tail in tails.items()}
    program.compile(states, batch)


def share_of_rows(num_records: int, host: int, num_hosts: int) -> np.ndarray:
    """Rows that one of several hosts predicts, as many on each.

    Returns:
        [ceil(n / H)] int; those of all hosts in turn are 0 to n - 1 and then n - 1 again and again.
    """
    share = -(-num_records // num_hosts)
    return np.minimum(np.arange(host * share, (host + 1) * share), num_records - 1)


def selection_loss(
    predictions: Predictions, specs: Sequence[TargetSpec], config: LossConfig
) -> float:
    """What picks the best checkpoint: weighted mean, over targets with labels, of their loss.

    Squared error and cross-entropy, whatever loss and learned weights training uses, so that runs
    compare.
    """
    means, weights = [], []
    for spec, weight in zip(specs, config.weights):  # auxiliary targets, the last, choose nothing
        known = np.isfinite(predictions.loss[spec.name])
        if known.any():
            means.append(predictions.loss[spec.name][known].mean())
            weights.append(weight)
    return float(np.average(means, weights=weights))


def split_metrics(
    predictions: Predictions, records: Records, specs: Sequence[TargetSpec]
) -> dict[str, Metrics]:
    """Metrics per target, with the spread over views.

    `spread_over_views` is the mean over materials of the standard deviation over views, in the
    target's unit; `relative_spread` divides it by the standard deviation of the labels.
    """
    return {
        spec.name: metrics_with_spread(
            spec, records.labels[spec.name], predictions.values[spec.name],
            predictions.spread[spec.name],
        )
        for spec in specs
    }


def metrics_with_spread(
    spec: TargetSpec, labels: np.ndarray, values: np.ndarray, spread: np.ndarray
) -> Metrics:
    """`target_metrics` and, as `split_metrics` says, those of the spread [n]."""
    metrics = target_metrics(spec, labels, values)
    mean = float(spread.mean())
    metrics["spread_over_views"] = mean
    if spec.kind == "regression":
        scale = float(np.nanstd(labels)) if np.isfinite(labels).any() else 0.0
        metrics["relative_spread"] = mean / scale if scale > 0 else None
    return metrics


def write_predictions(
    path: Path, predictions: Predictions, records: Records, specs: Sequence[TargetSpec]
) -> None:
    """One row per material and target, see `predictions_table`."""
    ids, formulas = (tuple(map(str, c)) for c in (records.material_id, records.formula))
    write_table(path, (
        TargetPredictions(
            spec, ids, formulas, records.labels[spec.name], predictions.values[spec.name],
            predictions.spread[spec.name],
        )
        for spec in specs
    ))
