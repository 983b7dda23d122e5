"""Entries of a dataset and the file that pins them; what a stranger's file may say is checked."""

import dataclasses
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from densityjax.density.reader import Density, DensityFormatError
from densityjax.runtime.files import replaced
from tfds_builders.errors import DatasetSourceError
from tfds_builders.folds import NUM_FOLDS

FORMAT = 1
FILE = "manifest.jsonl"
RUN_TYPES = {"GGA": "PBE", "GGA+U": "PBE+U", "r2SCAN": "r2SCAN"}  # -> functional of a record
ELECTRON_TOLERANCE = 1e-3  # relative, of a density against the task's NELECT
VOLUME_TOLERANCE = 1e-3  # relative, of a density's cell against the task's
# What a key and a bucket may be called: a key becomes a path below the manifest's folder.
_KEY = re.compile(r"chgcars/[A-Za-z0-9_][\w.-]*\.json\.gz", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One of the paper's datasets, or all densities.

    Attributes:
        targets: its labels.
        has_props: properties that the API must know of an entry.
        magnetic: whether entries must be magnetic or not; None takes both.
        required: label without which an entry is left out.
    """

    targets: tuple[str, ...]
    has_props: tuple[str, ...]
    magnetic: bool | None
    required: str


DATASETS = {
    "nonmagnetic": Dataset(
        targets=(
            "bulk_modulus", "volume", "density", "total_energy", "formation_energy_per_atom",
            "fermi_energy", "band_gap", "bandwidth",
        ),
        has_props=("elasticity",), magnetic=False, required="bulk_modulus",
    ),
    "magnetic": Dataset(
        targets=("magnetic_moment", "volume", "density"),
        has_props=("magnetism",), magnetic=True, required="magnetic_moment",
    ),
    "stability": Dataset(
        targets=("is_stable", "volume", "density"),
        has_props=("phonon",), magnetic=None, required="is_stable",
    ),
    # Every density that is there, with what its structure alone says: for pretraining.
    "densities": Dataset(
        targets=("volume", "density"),
        has_props=("charge_density",), magnetic=None, required="volume",
    ),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A material, the task whose density stands for it, and its labels; one line of a manifest.

    Attributes:
        key, size, etag: object in the bucket, its bytes, and its checksum.
        num_electrons, grid: what the task's parameters say of its density; None if nothing.
        volume: Å^3 of the task's cell.
        labels: target -> label in the unit of `densityjax.targets`; a missing one is absent.
        origins: where labels of other calculations come from, and the numbers behind them.
    """

    material_id: str
    task_id: str
    run_type: str
    formula: str
    chemical_system: str
    fold: int
    key: str
    size: int
    etag: str
    num_electrons: float | None
    grid: tuple[int, int, int] | None
    volume: float
    labels: dict[str, float]
    origins: dict[str, Any]

    def check(self, density: Density) -> None:
        """Raises DensityFormatError if a density is not that of this entry's task."""

        def expect(what: str, found: Any, expected: Any, agree: bool) -> None:
            if not agree:
                raise DensityFormatError(
                    f"{density.source}: {what} is {found}; expected {expected}, as the manifest "
                    f"says of {self.task_id}"
                )

        expect("the formula", density.formula, self.formula, density.formula == self.formula)
        if self.grid is not None:
            found = density.values.shape
            expect("the grid", found, self.grid, found == self.grid)
        agree = abs(density.volume / self.volume - 1) < VOLUME_TOLERANCE
        expect("the volume", f"{density.volume:.4f} Å^3", f"{self.volume:.4f}", agree)
        found = density.num_electrons
        expected = self.num_electrons or max(1, round(found))  # a task without NELECT
        agree = abs(found / expected - 1) < ELECTRON_TOLERANCE
        expect("the number of electrons", f"{found:.4f}", f"{expected:.4f}", agree)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Entries with what they share.

    Attributes:
        header: dataset, run_type, database_version, created and the rules that were applied.
        sha256: of the file; '' before it is written.
    """

    header: dict[str, Any]
    entries: list[Entry]
    sha256: str = ""


def write_manifest(manifest: Manifest, folder: str | Path) -> Manifest:
    """Writes FOLDER/manifest.jsonl whole or not at all; returns it with its digest."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [manifest.header, *(dataclasses.asdict(entry) for entry in manifest.entries)]
    data = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
    with replaced(folder / FILE) as partial:
        partial.write_bytes(data)
    return dataclasses.replace(manifest, sha256=hashlib.sha256(data).hexdigest())


def read_manifest(folder: str | Path) -> Manifest:
    """Reads what `write_manifest` wrote.

    The file may be another person's, and its keys become paths below the folder: what they may be
    is checked here.

    Raises:
        DatasetSourceError: the file is missing or damaged, mixes run types, or names a bucket, or
          a path, that no manifest names.
    """
    path = Path(folder) / FILE
    make = "make it with: python -m tfds_builders.materials_project.manifest DATASET --out=FOLDER"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetSourceError(f"{path}: {error.strerror}; {make}") from error
    number, entries = 1, []
    try:
        lines = data.decode().split("\n")
        header = json.loads(lines[0])
        _check_header(header)
        for line in lines[1:]:
            number += 1
            if line.strip():
                entries.append(_parse_entry(line, header["run_type"], Path(folder)))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        problem = f"{path}: line {number}: not a manifest ({error})"
        raise DatasetSourceError(f"{problem}; {make}") from error
    return Manifest(header, entries, hashlib.sha256(data).hexdigest())


def _check_header(header: Any) -> None:
    """Raises ValueError, TypeError or KeyError for what `make_manifest` does not write."""
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}, expected {FORMAT}")
    if header["dataset"] not in DATASETS or header["run_type"] not in RUN_TYPES:
        raise ValueError("an unknown dataset or run type")
    bucket = header["bucket"]
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(f"bucket {bucket!r}, expected a name of small letters, digits, '-', '.'")


def _parse_entry(line: str, run_type: str, folder: Path) -> Entry:
    """An entry from its line. Raises ValueError, TypeError or KeyError."""
    fields = json.loads(line)
    fields["grid"] = tuple(fields["grid"]) if fields["grid"] else None
    entry = Entry(**fields)
    if entry.run_type != run_type:
        raise ValueError(f"run type {entry.run_type} among {run_type}")
    if not _KEY.fullmatch(entry.key):
        raise ValueError(f"key {entry.key!r}, expected chgcars/TASK_ID.json.gz")
    root = os.path.realpath(folder)
    if os.path.commonpath([root, os.path.realpath(os.path.join(root, entry.key))]) != root:
        raise ValueError(f"key {entry.key!r} is a link out of the folder: remove the link")
    texts = (entry.material_id, entry.task_id, entry.etag)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"material_id, task_id and etag are {texts}, expected texts")
    if type(entry.size) is not int or entry.size < 0:
        raise ValueError(f"size {entry.size!r}, expected bytes")
    if type(entry.fold) is not int or entry.fold not in range(NUM_FOLDS):
        raise ValueError(f"fold {entry.fold!r}, expected 0 to {NUM_FOLDS - 1}")
    numbers = (entry.volume, entry.num_electrons or 0, *entry.labels.values())
    if not all(_is_finite(value) for value in numbers) or entry.volume <= 0:
        raise ValueError("volume, num_electrons or a label is not a finite number")
    return entry


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
