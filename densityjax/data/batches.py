"""Records -> per-host batches: which example comes when, decoded in worker threads."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from densityjax.data.free_targets import RecordTargets
from densityjax.data.records import Records
from densityjax.targets import TargetSpec, to_intensive

if TYPE_CHECKING:
    from types import ModuleType

    import grain

Batch = dict[str, np.ndarray]
MODEL_INPUTS = ("density", "lattice", "num_electrons", "descriptors")


def training_labels(
    records: Records, specs: Sequence[TargetSpec], mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as the loss takes them.

    Args:
        mean, std: [T] of the intensive labels; 0 and 1 for classes.

    Returns:
        (labels [n, T] float32, standardised or class index, 0 where missing;
        mask [n, T] float32, 1 where the label exists).
    """
    if not specs:
        return (np.zeros((len(records), 0), np.float32),) * 2
    columns = []
    for spec in specs:
        values = records.labels[spec.name]
        if spec.kind == "regression":
            values = to_intensive(spec, values, records.num_electrons, records.volume)
        else:
            values = np.where(values < 0, np.nan, values)
        columns.append(values)
    values = (np.stack(columns, axis=1) - mean) / std  # [n, T]
    mask = np.isfinite(values)
    return np.where(mask, values, 0).astype(np.float32), mask.astype(np.float32)


@functools.lru_cache(maxsize=2)  # of 100,000 rows it takes longer than to read a batch
def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Order of the rows in one epoch, a pure function of (seed, epoch): [n] int, read-only."""
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    order.setflags(write=False)
    return order


@dataclasses.dataclass(frozen=True)
class BatchSource:
    """This host's batches of a run by step, so that a resumed run needs only its step.

    Every epoch visits each row once; its last batch is padded with masked rows.
    """

    records: Records
    labels: np.ndarray
    mask: np.ndarray
    seed: int
    batch_size: int
    num_steps: int
    host: int
    num_hosts: int
    free: RecordTargets | None = None  # what the records say of themselves, for objectives

    @property
    def steps_per_epoch(self) -> int:
        """Batches that visit every row once."""
        return -(-len(self.records) // self.batch_size)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> Batch:
        epoch, batch = divmod(int(step), self.steps_per_epoch)
        order = epoch_order(self.seed, epoch, len(self.records))
        rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        real = np.arange(self.batch_size) < len(rows)
        rows = np.concatenate([rows, np.zeros(self.batch_size - len(rows), rows.dtype)])
        share = self.batch_size // self.num_hosts
        own = slice(self.host * share, (self.host + 1) * share)
        batch = make_batch(self.records, rows[own], self.labels, self.mask, real[own])
        return batch if self.free is None else batch | self.free.batch(rows[own])


def make_batch(
    records: Records, rows: np.ndarray, labels: np.ndarray, mask: np.ndarray, real: np.ndarray
) -> Batch:
    """Gathers rows into arrays.

    Args:
        rows: [B] rows of `records`.
        labels, mask: [n, T], see `training_labels`.
        real: [B] bool, False for padding, whose mask becomes 0.
    """
    return {
        "density": np.stack([records.density(row) for row in rows]),  # [B, G, G, G, C] e/Å^3
        "lattice": records.lattice[rows].astype(np.float32),  # [B, 3, 3] Å
        "num_electrons": records.num_electrons[rows].astype(np.float32),  # [B]
        "descriptors": records.descriptors[rows],  # [B, D], see features.reduction
        "index": records.index[rows],  # [B]
        "labels": labels[rows],  # [B, T]
        "mask": mask[rows] * real[:, None].astype(np.float32),  # [B, T]
    }


def iterate_batches(source: BatchSource, start_step: int, num_threads: int) -> Iterator[Batch]:
    """Batches from `start_step` on, in order, decoded ahead of time in threads."""
    return _decode_ahead(_grain().MapDataset.source(source)[start_step:], num_threads)


def evaluation_batches(
    records: Records, batch_size: int, num_threads: int = 2, rows: np.ndarray | None = None,
    free: RecordTargets | None = None,
) -> Iterator[Batch]:
    """Every record once, in order, decoded ahead of time; the last batch may be smaller.

    Args:
        rows: [n] the records to take, in their order; None for all.
        free: what the records say of themselves, and their index, come along.
    """
    chosen = np.arange(len(records)) if rows is None else rows
    none = np.zeros((len(records), 0), np.float32)
    names = MODEL_INPUTS if free is None else (*MODEL_INPUTS, "index")

    def batch_from(start: int) -> Batch:
        rows = chosen[start : start + batch_size]
        batch = make_batch(records, rows, none, none, np.ones(len(rows), bool))
        more = {} if free is None else free.batch(rows)
        return {name: batch[name] for name in names} | more

    if len(chosen) <= batch_size:  # one batch: nothing is ahead
        return iter([batch_from(0)])
    starts = _grain().MapDataset.range(0, len(chosen), batch_size)
    return _decode_ahead(starts.map(batch_from), num_threads)


def _grain() -> "ModuleType":
    import grain  # a third of a second, which the prediction of a few files does not wait for

    return grain


def _decode_ahead(dataset: "grain.MapDataset", num_threads: int) -> Iterator[Batch]:
    """Elements in order; reading and decompressing a record does not hold Python's lock."""
    options = _grain().ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(dataset.to_iter_dataset(options))
