"""Records of several datasets as one, and some of the records of one."""

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from densityjax.data.records import PerAtom, Records

# The columns of `Records` with an entry per material.
_COLUMNS = (
    "index", "material_id", "formula", "chemical_system", "code", "lattice", "num_electrons",
    "moment", "descriptors",
)


@dataclasses.dataclass(frozen=True)
class JoinedSource(Sequence):
    """Sources one after the other; reads from them when a record is asked for."""

    sources: tuple[Sequence[Mapping[str, Any]], ...]

    def __post_init__(self) -> None:
        stops = tuple(itertools.accumulate(map(len, self.sources)))
        object.__setattr__(self, "_stops", stops)

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, row: int) -> Mapping[str, Any]:
        place = bisect.bisect_right(self._stops, row)
        if row < 0 or place == len(self.sources):
            raise IndexError(f"row {row} of {len(self)}")
        return self.sources[place][row - (self._stops[place - 1] if place else 0)]


def taken(records: Records, rows: np.ndarray) -> Records:
    """Some records, in the order of `rows` [n]; no density is read."""
    densities = records.densities
    return dataclasses.replace(
        records, rows=records.rows[rows], species=_some(records.species, rows),
        labels={name: values[rows] for name, values in records.labels.items()},
        features={name: _some(values, rows) for name, values in records.features.items()},
        densities=None if densities is None else tuple(densities[row] for row in rows),
        **{name: getattr(records, name)[rows] for name in _COLUMNS},
    )


def join_records(parts: Sequence[Records]) -> Records:
    """Records one after the other, without labels.

    The ids `index` of a part are raised beyond those of the parts before it, so that no two records
    share the views that a step draws for an id.

    Args:
        parts: of one grid and as many channels; all with the same features, all cached or none.

    Raises:
        ValueError: they are not.
    """
    first = parts[0]
    kinds = {
        (part.grid, part.channels, part.densities is None, tuple(part.features)) for part in parts
    }
    if len(kinds) != 1:
        raise ValueError(f"records of different kinds: {kinds}")
    # Cached densities are taken in the order of the rows; sources are asked by row alone.
    lengths = [0, *itertools.accumulate(len(part.source) for part in parts)]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _COLUMNS if name != "index"
    }
    index, next_id = [], 0
    for part in parts:
        index.append(part.index.astype(np.int64) + next_id)
        next_id = int(index[-1].max()) + 1
    return dataclasses.replace(
        first,
        source=JoinedSource(tuple(part.source for part in parts)),
        rows=np.concatenate([part.rows + start for part, start in zip(parts, lengths)]),
        index=np.concatenate(index).astype(first.index.dtype),
        species=_joined([part.species for part in parts]),
        labels={},
        features={
            name: _joined([part.features[name] for part in parts]) for name in first.features
        },
        densities=None if first.densities is None
        else tuple(itertools.chain.from_iterable(part.densities for part in parts)),
        **columns,
    )


def _some(values: Any, rows: np.ndarray) -> Any:
    if isinstance(values, PerAtom):
        return dataclasses.replace(values, stop=values.stop[rows], size=values.size[rows])
    return values[rows]


def _joined(values: Sequence[Any]) -> Any:
    """Arrays [n, ...] or arrays per atom, one after the other."""
    if not isinstance(values[0], PerAtom):
        return np.concatenate(values)
    starts = [0, *itertools.accumulate(len(own.values) for own in values)]
    return PerAtom(
        np.concatenate([own.values for own in values]),
        np.concatenate([own.stop + start for own, start in zip(values, starts)]),
        np.concatenate([own.size for own in values]),
    )
