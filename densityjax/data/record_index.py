"""The small fields of every record: scanned once, kept in a file beside the dataset.

A record is 131 kB and more, nearly all of it the density. What training must know of all records at
once (labels, cells, names) is under 1 kB of each, here as one array per field. Only the first start
on a dataset reads every record for it.
"""

import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densityjax.data.dataset import DatasetError
from densityjax.runtime.files import replaced

Columns = dict[str, np.ndarray]

_TEXT = ("material_id", "formula", "chemical_system", "code")
_FIELDS = ("density", "lattice", "species", "num_electrons", "index", "targets", *_TEXT)
_VERSION = 1  # of the columns below
_CHUNK = 1024  # records that are held as Python objects at a time
# What TFDS and array_record raise of a file that is cut, altered or gone.
_DAMAGE = (RuntimeError, OSError, ValueError, IndexError, KeyError)
_MANY = 10_000  # records of which the scan is announced: it takes half a minute per 100,000


class PartialSource(Sequence):
    """Random access to the records of a split, decoding only the features named.

    TFDS would do this as `as_data_source(decoders=PartialDecoding(...))`, which needs TensorFlow.

    Args:
        builder: TFDS builder of a prepared dataset.
        split: 'fold0' or 'fold0+fold1'.
        names: top-level features to decode.

    Raises:
        DatasetError: a file of the dataset is missing or damaged; also of access to a record.
    """

    def __init__(self, builder: Any, split: str, names: Sequence[str]):
        # TensorFlow Datasets takes a second to import; by now the builder has paid for it.
        import tensorflow_datasets as tfds

        self._builder, self.split = builder, split
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        try:
            self._raw = builder.as_data_source(split=split, deserialize_method=raw)
            self._length = len(self._raw)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        features = builder.info.features
        self._features = tfds.features.FeaturesDict({name: features[name] for name in names})

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> dict[str, Any]:
        try:
            return self._features.deserialize_example_np(self._raw[int(row)])
        except _DAMAGE as error:
            if not 0 <= row < self._length:  # a mistake of the caller's, and how iteration ends
                raise IndexError(f"row {row} of {self._length}") from error
            raise self._damaged(error, int(row)) from error

    def _damaged(self, error: Exception, row: int | None = None) -> DatasetError:
        """What to raise of a damaged dataset, with the file that holds the row."""
        place = self._builder.data_dir
        if row is not None:
            place = _shard_of(self._builder, self.split, row)
        reason = " ".join(str(error).split())[:200]
        return DatasetError(
            f"{place}: dataset {self._builder.info.full_name} is damaged ({reason}): "
            + self._builder.remedy()
        )


def _shard_of(builder: Any, split: str, row: int) -> Path | str:
    """The file that holds a row of 'fold0+fold1'."""
    for name in split.split("+"):
        info = builder.info.splits[name]
        for path, length in zip(info.filepaths, info.shard_lengths, strict=True):
            if row < length:
                return Path(path)
            row -= length
    return builder.data_dir


def read_index(builder: Any, split: str, fingerprint: str) -> Columns:
    """Small fields of a split, from the file beside the dataset or else from the records.

    The file is written when it is missing, damaged, or of other data; where that is not possible
    the next start scans again.

    Args:
        builder: TFDS builder of a prepared dataset.
        split: one split, 'fold0'.
        fingerprint: of the dataset, `dataset.fingerprint`; an index of another one is not taken.

    Returns:
        See `scan`.
    """
    key = split_key(builder, split, fingerprint, _VERSION)
    return kept_beside(builder, f"index-{split}.npz", key, lambda: scan(builder, split))


def kept_beside(
    builder: Any, name: str, key: str, compute: Callable[[], Columns]
) -> Columns:
    """Columns from a file beside the dataset, computed where it is missing, damaged or of others.

    Args:
        builder: TFDS builder of a prepared dataset.
        name: of the file.
        key: says what the columns are of.
    """
    path = Path(builder.data_dir) / name
    columns = _read(path, key)
    if columns is None:
        columns = compute()
        _write(path, key, columns)
    return columns


def scan(builder: Any, split: str) -> Columns:
    """Reads every record of a split.

    Returns:
        index [n] int32; material_id, formula, chemical_system, code [n] str; lattice [n, 3, 3]
        float32 Å; num_electrons [n] float32; channels [n] int8; grid [n] int16;
        moment [n] float64 μB, |integral of the magnetisation|, 0 without one;
        num_atoms [n] int32, species [their sum] uint8, cell after cell;
        targets/NAME [n] float32, NaN = missing, or int32, -1 = missing.
    """
    source = PartialSource(builder, split, _FIELDS)
    if len(source) > _MANY:
        print(
            f"Reading {len(source)} records of {builder.info.full_name} {split} (once)",
            file=sys.stderr, flush=True,
        )
    starts = range(0, max(len(source), 1), _CHUNK)
    chunks = [
        _columns(builder, [_small(source[row]) for row in range(s, min(s + _CHUNK, len(source)))])
        for s in starts
    ]
    return concatenate(chunks)


def concatenate(parts: Sequence[Columns]) -> Columns:
    """The columns of several splits as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _small(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its density, of which grid, channels and moment stay."""
    density = record.pop("density")  # [G, G, G, C]
    moment = 0.0
    if density.shape[-1] == 2:
        volume = abs(np.linalg.det(record["lattice"].astype(np.float64)))
        moment = abs(float(density[..., 1].mean()) * volume)
    return record | {"moment": moment, "grid": density.shape[0], "channels": density.shape[-1]}


def _columns(builder: Any, records: list[dict[str, Any]]) -> Columns:
    """Arrays of the fields of some records."""
    columns = {
        name: np.asarray([record[name] for record in records], dtype)
        for name, dtype in (
            ("index", np.int32), ("num_electrons", np.float32), ("channels", np.int8),
            ("grid", np.int16), ("moment", np.float64),
        )
    }
    for name in _TEXT:
        columns[name] = np.asarray([_text(record[name]) for record in records], np.str_)
    columns["lattice"] = np.asarray([r["lattice"] for r in records], np.float32).reshape(-1, 3, 3)
    columns["num_atoms"] = np.asarray([len(record["species"]) for record in records], np.int32)
    atoms = [np.zeros(0, np.uint8), *(record["species"] for record in records)]
    columns["species"] = np.concatenate(atoms).astype(np.uint8)
    for name, feature in builder.info.features["targets"].items():
        values = [record["targets"][name] for record in records]
        columns[f"targets/{name}"] = np.asarray(values, feature.np_dtype)
    return columns


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def split_key(builder: Any, split: str, fingerprint: str, *versions: Any) -> str:
    """Says which records columns are of, and by which code."""
    info = builder.info.splits[split]
    return json.dumps([*versions, fingerprint, split, info.shard_lengths, info.num_bytes])


def _read(path: Path, key: str) -> Columns | None:
    """The columns of an index file, None if it is missing, damaged or of other records."""
    # zipfile checks the CRC of all that it reads.
    damage = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key:
                return None
            return {name: file[name] for name in file.files if name != "key"}
    except damage:
        return None


def _write(path: Path, key: str, columns: Columns) -> None:
    """Replaces an index file atomically; does nothing in a place that cannot be written to."""
    try:
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, key=np.asarray(key), **columns)
    except OSError:
        pass  # the next start scans again
