"""What the builders have in common: the features of a record, and a build that can be killed."""

import contextlib
import dataclasses
import fcntl
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from densityjax.targets import TargetSpec

MIN_SHARDS_PER_FOLD = 4  # readers in parallel
SHARD_BYTES = 256 * 2**20


class DatasetSourceError(ValueError):
    """The data to build from are missing or damaged; the message names the file and the remedy."""


@dataclasses.dataclass(eq=False)
class GridConfig(tfds.core.BuilderConfig):
    """A builder config: the records hold densities on a cube of `grid` points per axis."""

    grid: int = 0


def record_features(size: int, specs: Iterable[TargetSpec]) -> tfds.features.FeaturesDict:
    """Features of a record: those of `densityjax.record.make_record`, names, and labels.

    Args:
        size: voxels along each axis of the stored density, G.
        specs: targets of the dataset.
    """
    tensor = tfds.features.Tensor
    text = tfds.features.Text
    return tfds.features.FeaturesDict({
        # [G, G, G, C] charge in e/Å^3 and, computed with spin, magnetization in μB/Å^3; as a
        # list of floats instead of bytes it takes TFDS several times as long to write
        "density": tensor(shape=(size, size, size, None), dtype=np.float32, encoding="bytes"),
        "lattice": tensor(shape=(3, 3), dtype=np.float32),  # Å, rows
        "species": tensor(shape=(None,), dtype=np.int32),  # atomic numbers
        "positions": tensor(shape=(None, 3), dtype=np.float32),  # fractional
        "num_electrons": np.float32,  # integral over the source file
        "native_grid": tensor(shape=(3,), dtype=np.int32),  # of that file
        "negative_fraction": np.float32,  # of the charge as stored
        "code": text(),
        "functional": text(),
        "material_id": text(),
        "formula": text(),
        "chemical_system": text(),
        "fold": np.int32,
        "index": np.int64,  # row of the table of labels
        "targets": {spec.name: np.int32 if spec.classes else np.float32 for spec in specs},
    })


@contextlib.contextmanager
def exclusive(builder: tfds.core.DatasetBuilder) -> Iterator[bool]:
    """Lets one process at a time build at a place; the others wait for it.

    A build that was killed leaves no dataset, only a directory that this removes.

    Yields:
        Whether the dataset is still to be built.
    """
    if builder.is_prepared():
        yield False  # perhaps at a place that we cannot write to
        return
    folder = Path(builder.data_path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system if we are killed
        if builder.is_prepared():
            builder.info.read_from_directory(builder.data_dir)  # another process has built it
            yield False
            return
        for stale in folder.glob(f"incomplete.*_{builder.version}"):
            shutil.rmtree(stale)
        yield True


def num_shards(counts: Collection[int], record_bytes: int) -> int:
    """Shards of each fold: of about 256 MiB, at least four, none empty.

    Args:
        counts: materials of each fold.
        record_bytes: size of the largest density.
    """
    wanted = -(-max(counts) * record_bytes // SHARD_BYTES)
    return min(max(wanted, MIN_SHARDS_PER_FOLD), min(counts))


def missing_label(spec: TargetSpec) -> Any:
    """What a record holds where there is no label: NaN (regression) or -1 (class)."""
    return np.int32(-1) if spec.classes else np.float32("nan")
