"""What training knows of the materials of a dataset: the records of some splits, filtered."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from densityjax.data.dataset import DatasetError, fingerprint
from densityjax.data.feature_index import read_features
from densityjax.data.record_index import Columns, PartialSource, concatenate, read_index
from densityjax.density.core import NEEDS, Core, seen_record
from densityjax.features.descriptors import Descriptors
from densityjax.features.record_features import PER_ATOM, WIDTHS
from densityjax.targets import TargetSpec

# What the sources of records with atoms give.
ATOMS = ("density", "lattice", "positions", "species", "num_electrons")
_ELEMENTS = frozenset(chemical_symbols[1:])


@dataclasses.dataclass(frozen=True)
class PerAtom(Sequence):
    """n arrays with a row per atom of a cell, held as one.

    Attributes:
        values: [atoms, ...] of all cells, one after the other.
        stop: [n] where each cell ends in `values`.
        size: [n] atoms of each cell.
    """

    values: np.ndarray
    stop: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, row: int) -> np.ndarray:
        stop = self.stop[row]
        return self.values[stop - self.size[row] : stop]


@dataclasses.dataclass(frozen=True)
class SeenSource(Sequence):
    """Records as models see them, see `density.core`."""

    stored: Sequence[Mapping[str, Any]]
    core: Core

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        return seen_record(self.stored[row], self.core)


@dataclasses.dataclass(frozen=True)
class Records:
    """Random access to the records of some splits, with everything but the densities in memory.

    Attributes:
        source: sequence of records with their densities, as models see them.
        rows: [n] positions in `source`.
        channels: 1 charge, 2 charge and magnetisation.
        grid: voxels along each axis of the stored density.
        index: [n] int, stable ids within the dataset.
        material_id, formula, chemical_system, code: [n] str.
        lattice: [n, 3, 3] Å.
        num_electrons: [n] of the cell.
        moment: [n] μB, |integral of the magnetisation|, 0 without one.
        species: n arrays of atomic numbers, int32.
        labels: {target: [n]} float64, NaN = missing; classes: int index, -1 = missing.
        densities: n arrays [G, G, G, channels] if cached, else None.
        features: {block: [n, F] float32, or n arrays [N, S] with a row per atom}, see
          `features.record_features`; empty unless asked for.
        descriptors: [n, D] float32, what enters a network beside the density, see
          `features.reduction`; D is 0 until they are fitted.
        coarsening: stored voxels along an edge of a voxel of `densities`; above 1 these are
          latents of an encoder, see `training.latents`.
    """

    source: Sequence[Mapping[str, Any]]
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
    species: PerAtom
    labels: dict[str, np.ndarray]
    densities: tuple[np.ndarray, ...] | None
    features: Mapping[str, Any]
    descriptors: np.ndarray
    coarsening: int = 1

    def described(self, descriptors: Descriptors) -> "Records":
        """With complete features and what enters a network; they are not the training rows."""
        features = descriptors.complete(self.features, self.lattice, self.num_electrons)
        return dataclasses.replace(
            self, features=features, descriptors=descriptors(features, len(self))
        )

    def with_latents(self, latents: np.ndarray, stride: int) -> "Records":
        """With latents [n, g, g, g, L] of an encoder in the place of densities.

        Args:
            stride: see `coarsening`.
        """
        return dataclasses.replace(
            self, densities=tuple(latents), channels=latents.shape[-1], grid=latents.shape[1],
            coarsening=stride,
        )

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


def field_rows(num_records: int, max_fields: int) -> np.ndarray:
    """Rows whose densities a fit sees: all, or a fixed draw of them, in order."""
    if num_records <= max_fields:
        return np.arange(num_records)
    return np.sort(np.random.default_rng(0).choice(num_records, max_fields, replace=False))


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
    fraction: tuple[float, int] = (1.0, 0),
    features: bool = False,
    core: Core = "all",
    atoms: bool = False,
) -> Records:
    """Takes the small fields of all records from the index, and the densities if cached.

    Args:
        without_elements: symbols; materials with any of them are left out.
        with_any_of: symbols; materials with none of them are left out, unless it is empty.
        fraction: (share of the chemical systems to take, seed of the draw); a smaller share is part
          of a larger one.
        features: take the features of the records, too, see `feature_index`.
        core: what is seen of the densities, by features as well, see `density.core`.
        atoms: let the source give the atoms of a record, too.

    Raises:
        DatasetError: a split or a target is not in the dataset, a symbol is not an element, a label
          is infinite, a file of the dataset is damaged, or no record is left.
    """
    _check_request(builder, splits, specs, (*without_elements, *with_any_of))
    identity = fingerprint(builder)
    columns = concatenate([read_index(builder, split, identity) for split in splits])
    rows = _kept_rows(columns, spin_polarized_only, without_elements, with_any_of)
    rows = _some_systems(columns["chemical_system"], rows, *fraction)
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
    labels = {spec.name: _labels(builder, columns, rows, spec) for spec in specs}
    names = ("density",) if core == "all" else NEEDS
    names = ATOMS if atoms else names
    source = SeenSource(PartialSource(builder, "+".join(splits), names), core)
    densities = None
    if cache_in_memory:
        densities = tuple(_with_channels(source[row]["density"], channels) for row in rows)
    records = _assemble(columns, rows, source, channels, labels, densities)
    if not features:
        return records
    found = concatenate([read_features(builder, split, identity, core) for split in splits])
    return dataclasses.replace(records, features=_chosen(found, rows))


def _chosen(columns: Columns, rows: np.ndarray) -> dict[str, Any]:
    """Features of some rows, those of atoms by material."""
    size = columns["num_atoms"]
    stop = np.cumsum(size, dtype=np.int64)
    return {
        name: PerAtom(columns[name], stop[rows], size[rows])
        if name in PER_ATOM else columns[name][rows]
        for name in WIDTHS
    }


def _check_request(
    builder: Any, splits: Sequence[str], specs: Sequence[TargetSpec], symbols: Sequence[str]
) -> None:
    """Raises DatasetError if the dataset lacks a split or target, or a symbol is no element."""
    for symbol in symbols:
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


def _kept_rows(
    columns: Columns, spin_polarized_only: bool, without_elements: Sequence[str],
    with_any_of: Sequence[str],
) -> np.ndarray:
    """[n] int, the rows that pass the filters of `load_records`."""
    kept = np.ones(len(columns["index"]), bool)
    if spin_polarized_only:
        kept &= columns["channels"] == 2
    elements = [set(system.split("-")) for system in columns["chemical_system"]]
    if without_elements:
        kept &= np.array([present.isdisjoint(without_elements) for present in elements])
    if with_any_of:
        kept &= np.array([not present.isdisjoint(with_any_of) for present in elements])
    return np.flatnonzero(kept)


def _some_systems(systems: np.ndarray, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Those of the rows whose chemical systems are among a share of them, drawn at random."""
    if share == 1 or not len(rows):
        return rows
    names = np.unique(systems[rows])
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = names[order[: max(1, round(share * len(names)))]]
    return rows[np.isin(systems[rows], chosen)]


def _labels(builder: Any, columns: Columns, rows: np.ndarray, spec: TargetSpec) -> np.ndarray:
    """[n] labels of one target: float64 with NaN, or int class index with -1, where missing."""
    dtype = int if spec.kind == "classification" else np.float64
    values = columns[f"targets/{spec.name}"][rows].astype(dtype)
    if np.isinf(values).any():
        worst = columns["material_id"][rows[np.argmax(np.isinf(values))]]
        raise DatasetError(
            f"target '{spec.name}' of {worst} in {builder.info.full_name} is infinite: mend the "
            "label, or leave it empty (NaN), and build the dataset again"
        )
    return values


def _assemble(
    columns: Columns, rows: np.ndarray, source: SeenSource, channels: int,
    labels: dict[str, np.ndarray], densities: tuple[np.ndarray, ...] | None,
) -> Records:
    """The chosen rows of the columns, in the types that training computes with."""
    stop = np.cumsum(columns["num_atoms"], dtype=np.int64)
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
        species=PerAtom(
            columns["species"].astype(np.int32), stop[rows], columns["num_atoms"][rows]
        ),
        labels=labels,
        densities=densities,
        features={},
        descriptors=np.zeros((len(rows), 0), np.float32),
    )
