"""The features of every record: computed once per dataset, kept in a file beside its index."""

import functools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from densityjax.data.record_index import Columns, PartialSource, kept_beside, split_key
from densityjax.density.core import VERSION as CORE_VERSION
from densityjax.density.core import Core, seen_record
from densityjax.features.record_features import VERSION, WIDTHS, record_features

_NAMES = ("density", "lattice", "positions", "species")
_MANY = 2_000  # records of which the computation is announced: some milliseconds each
_CHUNK = 256  # records in work at a time


def read_features(builder: Any, split: str, fingerprint: str, core: Core = "all") -> Columns:
    """Features of a split, in the order of its records.

    Those of each choice of `core` have a file of their own.

    Args:
        builder: TFDS builder of a prepared dataset.
        split: one split, 'fold0'.
        fingerprint: of the dataset; features of another one are not taken.
        core: what is seen of the densities, see `density.core`.

    Returns:
        float32 arrays by block, see `record_features`: [n, F], or [atoms, S] of all cells, one
        after the other; num_atoms [n] int32.

    Raises:
        DatasetError: a file of the dataset is missing or damaged.
    """
    # The file of 'all' is named and keyed as it was before there was a choice.
    own, which = ("", ()) if core == "all" else (f"-{core}", (core, CORE_VERSION))
    key = split_key(builder, split, fingerprint, VERSION, WIDTHS, *which)
    compute = functools.partial(_compute, builder, split, core)
    return kept_beside(builder, f"features-{split}{own}.npz", key, compute)


def _compute(builder: Any, split: str, core: Core) -> Columns:
    source = PartialSource(builder, split, _NAMES)
    if len(source) > _MANY:
        print(
            f"Computing features of {len(source)} records of {builder.info.full_name} {split} "
            "(once)", file=sys.stderr, flush=True,
        )
    found = list(_features(source, core))
    columns: Columns = {
        name: np.concatenate([np.zeros((0, width), np.float32)] + [
            features[name].reshape(-1, width) for features in found
        ])
        for name, width in WIDTHS.items()
    }
    atoms = [len(features["surroundings"]) for features in found]
    return columns | {"num_atoms": np.array(atoms, np.int32)}


def _features(source: PartialSource, core: Core) -> Iterator[dict[str, np.ndarray]]:
    """Of each record in order, on all cores: transforms and products do not hold Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(source), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(source)))
            yield from pool.map(lambda row: record_features(seen_record(source[row], core)), rows)
