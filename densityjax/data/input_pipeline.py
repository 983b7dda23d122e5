"""Records -> per-host batches: which example comes when, decoded in worker threads."""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from ase.data import chemical_symbols
from ml_collections import ConfigDict

from densityjax.data.record_index import PartialSource, concatenate, read_index
from densityjax.runtime import distributed
from densityjax.targets import TargetSpec, dataset_targets, get_specs, to_intensive

Batch = dict[str, np.ndarray]
_ELEMENTS = frozenset(chemical_symbols[1:])


class DatasetError(ValueError):
    """The dataset is missing, damaged, or lacks what the config asks for."""


def open_dataset(name: str, data_dir: str, build: bool, **options: Any) -> Any:
    """TFDS builder of a prepared dataset, preparing it first if it is missing and `build` is set.

    Of several processes the first prepares it while the others wait; those that do not find it
    then, on a disk of their own, prepare it, too, one at a time on each machine.

    Args:
        name: 'elastic_densities/grid32'.
        data_dir: folder that holds prepared datasets.
        **options: `source`, `split` and `strict` of `tfds_builders.load_builder`.

    Raises:
        DatasetError: the name is unknown, or the dataset is not there and `build` is False.
    """
    # Builders import density_io and grid from this package, and TFDS takes a second to import.
    import tfds_builders
    from tfds_builders.density_builder import DatasetSourceError

    if not distributed.is_writer():
        distributed.wait_for_work("dataset")
    try:
        builder = tfds_builders.load_builder(name, data_dir, **options)
    except DatasetSourceError as error:
        raise DatasetError(str(error)) from error
    except ValueError as error:
        raise DatasetError(f"config.data.name: {error}") from error
    if not builder.is_prepared():
        if not build:
            raise DatasetError(
                f"dataset '{name}' is not in config.data.data_dir='{data_dir}'; build it with "
                f"'python -m tfds_builders {name} --data_dir={data_dir}' or --config.data.build"
                + (f" (with --source={options['source']})" if options.get("source") else "")
            )
        print(f"Building dataset {name} in {data_dir} (once)", file=sys.stderr, flush=True)
    if not builder.is_prepared() or options.get("source"):
        builder.download_and_prepare()  # of a folder it also says what is wrong with it
    if distributed.is_writer():
        distributed.wait_for_work("dataset")
    return builder


def open_from_config(data: ConfigDict) -> Any:
    """`open_dataset` of a config's section `data`."""
    return open_dataset(
        data.name, data.data_dir, data.build,
        source=data.source, split=data.split, strict=data.strict,
    )


def resolve_targets(config: ConfigDict) -> ConfigDict:
    """The config with its targets spelled out: () stands for all that the dataset has.

    Raises:
        DatasetError, ValueError: a target is unknown, or the dataset is not there.
    """
    # Targets of its own only a folder of densities has; once built it is read without the folder.
    may_have_own = config.data.source or config.data.name.startswith("density_folder/")
    if config.targets and not may_have_own:
        get_specs(config.targets)  # mistakes are answered before a dataset is built
        return config
    builder = open_from_config(config.data)
    known = dataset_targets(builder)
    resolved = config.copy_and_resolve_references()
    has = builder.info.features["targets"].keys()
    resolved.targets = tuple(config.targets) or tuple(name for name in known if name in has)
    get_specs(resolved.targets, known)
    return resolved


@dataclasses.dataclass(frozen=True)
class Species(Sequence):
    """n arrays of atomic numbers, held as one.

    Attributes:
        numbers: [atoms] uint8 of all cells, one after the other.
        stop: [n] where each cell ends in `numbers`.
        size: [n] atoms of each cell.
    """

    numbers: np.ndarray
    stop: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, row: int) -> np.ndarray:
        stop = self.stop[row]
        return self.numbers[stop - self.size[row] : stop].astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Records:
    """Random access to the records of some splits, with everything but the densities in memory.

    Attributes:
        source: sequence of records with their densities.
        rows: [n] positions in `source`.
        channels: 1 charge, 2 charge and magnetisation.
        grid: voxels along each axis of the stored density.
        index: [n] int, stable ids within the dataset.
        material_id, formula, chemical_system, code: [n] str.
        lattice: [n, 3, 3] Å.
        num_electrons: [n] of the cell.
        moment: [n] μB, |integral of the magnetisation|, 0 without one.
        species: n arrays of atomic numbers.
        labels: {target: [n]} float64, NaN = missing; classes: int index, -1 = missing.
        densities: n arrays [G, G, G, channels] if cached, else None.
    """

    source: Sequence[dict[str, np.ndarray]]
    rows: np.ndarray
    channels: int
    grid: int
    index: np.ndarray
    material_id: np.ndarray
    formula: np.ndarray
    chemical_system: np.ndarray
    code: np.ndarray
    lattice: np.ndarray
    num_electrons: np.ndarray
    moment: np.ndarray
    species: Species
    labels: dict[str, np.ndarray]
    densities: tuple[np.ndarray, ...] | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def volume(self) -> np.ndarray:
        """[n] Å^3 per cell."""
        return np.abs(np.linalg.det(self.lattice))

    def density(self, row: int) -> np.ndarray:
        """[G, G, G, channels] float32 e/Å^3 (and μB/Å^3) of one record."""
        if self.densities is not None:
            return self.densities[row]
        return _with_channels(self.source[self.rows[row]]["density"], self.channels)


def _with_channels(density: np.ndarray, channels: int) -> np.ndarray:
    """Drops the magnetisation, or adds a zero one, to get `channels`."""
    missing = channels - density.shape[-1]
    if missing > 0:
        return np.pad(density, ((0, 0),) * 3 + ((0, missing),))
    return np.ascontiguousarray(density[..., :channels])


def load_records(
    builder: Any,
    splits: Sequence[str],
    specs: Sequence[TargetSpec],
    *,
    channels: int,
    spin_polarized_only: bool,
    cache_in_memory: bool,
    without_elements: Sequence[str] = (),
    with_any_of: Sequence[str] = (),
) -> Records:
    """Takes the small fields of all records from the index, and the densities if cached.

    Args:
        without_elements: symbols; materials with any of them are left out.
        with_any_of: symbols; materials with none of them are left out, unless it is empty.

    Raises:
        DatasetError: a split or a target is not in the dataset, a symbol is not an element, or no
          record is left.
    """
    for symbol in (*without_elements, *with_any_of):
        if symbol not in _ELEMENTS:
            raise DatasetError(
                f"config.data.held_out_elements: '{symbol}' is not the symbol of an element"
            )
    for split in splits:
        if split not in builder.info.splits:
            raise DatasetError(
                f"split '{split}' is not in dataset {builder.info.full_name}; "
                f"it has {', '.join(builder.info.splits)}"
            )
    known = builder.info.features["targets"].keys()
    for spec in specs:
        if spec.name not in known:
            raise DatasetError(
                f"target '{spec.name}' is not in dataset {builder.info.full_name}; "
                f"it has {', '.join(sorted(known))}"
            )
    columns = concatenate([read_index(builder, split) for split in splits])
    stop = np.cumsum(columns["num_atoms"], dtype=np.int64)
    kept = np.ones(len(stop), bool)
    if spin_polarized_only:
        kept &= columns["channels"] == 2
    elements = [set(system.split("-")) for system in columns["chemical_system"]]
    if without_elements:
        kept &= np.array([present.isdisjoint(without_elements) for present in elements])
    if with_any_of:
        kept &= np.array([not present.isdisjoint(with_any_of) for present in elements])
    rows = np.flatnonzero(kept)
    if not len(rows):
        asked = {
            "spin_polarized_only": spin_polarized_only, "without elements": without_elements,
            "with any of": with_any_of,
        }
        asked = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
        raise DatasetError(
            f"no record left in {'+'.join(splits)} of {builder.info.full_name}"
            + (f" ({asked})" if asked else "")
        )
    labels = {
        spec.name: columns[f"targets/{spec.name}"][rows].astype(
            int if spec.kind == "classification" else np.float64
        )
        for spec in specs
    }
    for name, values in labels.items():
        if np.isinf(values).any():
            worst = columns["material_id"][rows[np.argmax(np.isinf(values))]]
            raise DatasetError(
                f"target '{name}' of {worst} in {builder.info.full_name} is infinite: mend the "
                "label, or leave it empty (NaN), and build the dataset again"
            )
    source = PartialSource(builder, "+".join(splits), ["density"])
    densities = None
    if cache_in_memory:
        densities = tuple(_with_channels(source[row]["density"], channels) for row in rows)
    return Records(
        source=source,
        rows=rows,
        channels=channels,
        grid=int(columns["grid"][rows[0]]),
        index=columns["index"][rows],
        material_id=columns["material_id"][rows],
        formula=columns["formula"][rows],
        chemical_system=columns["chemical_system"][rows],
        code=columns["code"][rows],
        lattice=columns["lattice"][rows].astype(np.float64),
        num_electrons=columns["num_electrons"][rows].astype(np.float64),
        moment=columns["moment"][rows],
        species=Species(columns["species"], stop[rows], columns["num_atoms"][rows]),
        labels=labels,
        densities=densities,
    )


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
        return make_batch(self.records, rows[own], self.labels, self.mask, real[own])


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
        "index": records.index[rows],  # [B]
        "labels": labels[rows],  # [B, T]
        "mask": mask[rows] * real[:, None].astype(np.float32),  # [B, T]
    }


def iterate_batches(source: BatchSource, start_step: int, num_threads: int) -> Iterator[Batch]:
    """Batches from `start_step` on, in order, decoded ahead of time in threads."""
    return _decode_ahead(grain.MapDataset.source(source)[start_step:], num_threads)


def evaluation_batches(
    records: Records, batch_size: int, num_threads: int = 2, rows: np.ndarray | None = None
) -> Iterator[Batch]:
    """Every record once, in order, decoded ahead of time; the last batch may be smaller.

    Args:
        rows: [n] the records to take, in their order; None for all.
    """
    chosen = np.arange(len(records)) if rows is None else rows
    none = np.zeros((len(records), 0), np.float32)

    def batch_from(start: int) -> Batch:
        rows = chosen[start : start + batch_size]
        batch = make_batch(records, rows, none, none, np.ones(len(rows), bool))
        return {name: batch[name] for name in ("density", "lattice", "num_electrons")}

    starts = grain.MapDataset.range(0, len(chosen), batch_size)
    return _decode_ahead(starts.map(batch_from), num_threads)


def _decode_ahead(dataset: grain.MapDataset, num_threads: int) -> Iterator[Batch]:
    """Elements in order; reading and decompressing a record does not hold Python's lock."""
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(dataset.to_iter_dataset(options))
