"""One density at a time -> a record on disk: `process` serves one process, several, and Beam."""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from densityjax.density.plausibility import has_next_to_none, warnings_of
from densityjax.density.reader import Density, DensityFormatError, read_density
from densityjax.density.record import make_record
from densityjax.density.valence import is_usual, usual_sums
from tfds_builders.density_folder.names import no_density
from tfds_builders.density_folder.rows import Row
from tfds_builders.errors import DatasetSourceError

MANY = 200  # densities from which on several processes pay for their start
_TEXTS = ("formula", "chemical_system", "code")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a density file.

    Attributes:
        error: why there is no record, '' if there is one.
        kind: of the problem that the error is, see `problems.Problem`.
        content: hash of the record, whatever the file's format and compression.
        num_bytes: of the density as stored.
        warnings: what the reader assumed and what looks wrong, see `plausibility.warnings_of`.
        num_electrons: of the cell, were it neutral.
        species: atomic numbers.
    """

    error: str = ""
    kind: str = "unreadable file"
    content: str = ""
    chemical_system: str = ""
    num_bytes: int = 0
    warnings: tuple[str, ...] = ()
    num_electrons: float = 0.0
    species: tuple[int, ...] = ()


class _NoDensityError(Exception):
    """A file can be read, and certainly holds no density of its material."""


def process(path: str, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a record that a density file gives, and those of an `Outcome`.

    Args:
        size: voxels along each axis of the stored density.

    Raises:
        DensityFormatError: the file cannot be read.
    """
    density = read_density(path)
    if reason := why_no_density(density, path):
        raise _NoDensityError(reason)
    record = make_record(density, size) | {"code": density.code}
    return record, {
        "chemical_system": record["chemical_system"],
        "num_bytes": record["density"].nbytes,
        "warnings": (*density.notes, *warnings_of(density, path)),
        "num_electrons": float(density.num_electrons + density.charge),
        "species": tuple(map(int, density.species)),
    }


def why_no_density(density: Density, path: str) -> str:
    """Why a density is certainly not that of its atoms, '' if it may be.

    It has next to no electrons; or the file's name says that it is something else, and its
    electrons are not those that the atoms have with usual pseudopotentials.
    """
    electrons, atoms = density.num_electrons, len(density.species)
    remedy = "put the density in its place, or take the row out"
    if has_next_to_none(density):
        return f"{electrons:.4g} electrons for {atoms} atoms, so no density of theirs: {remedy}"
    kind = no_density(Path(path), "")
    usual = is_usual(electrons + density.charge, usual_sums(density.species))
    if kind and atoms and not usual:
        return (
            f"by its name {kind}, and its integral of {electrons:.6g} is no number of electrons "
            f"that its {atoms} atoms have: {remedy}"
        )
    return ""


def stage(row: Row, folder: str, size: int) -> Outcome:
    """`process`, with the record left in `folder` for `load_staged`.

    A row that was staged before is not read again. Memory: one density on its own grid.
    """
    note = Path(folder) / f"{row.index}.json"
    outcome = _staged_before(note)
    if outcome is not None:
        return outcome
    try:
        record, facts = process(row.path, size)
    except (DensityFormatError, OSError) as error:
        outcome = Outcome(error=str(error))
    except _NoDensityError as error:
        outcome = Outcome(error=f"{row.path}: {error}", kind="no density")
    except MemoryError:  # of one file; the others may need less
        outcome = Outcome(error=f"{row.path}: this machine has too little memory for it")
    else:
        digest = hashlib.sha256()
        for name in ("density", "lattice", "species"):
            digest.update(np.ascontiguousarray(record[name]).tobytes())
        outcome = Outcome(content=digest.hexdigest(), **facts)
        _replace(note.with_suffix(".npz"), lambda file: np.savez(file, **record))
    text = json.dumps(dataclasses.asdict(outcome)).encode()
    _replace(note, lambda file: file.write(text))
    return outcome


def _staged_before(note: Path) -> Outcome | None:
    """What an earlier build noted, None where the density must be read."""
    try:
        outcome = Outcome(**json.loads(note.read_text()))
        tuples = {"warnings": tuple(outcome.warnings), "species": tuple(outcome.species)}
        outcome = dataclasses.replace(outcome, **tuples)
    except (OSError, ValueError, TypeError):  # none, or cut short by a power cut
        return None
    return None if outcome.error else outcome


def _replace(path: Path, write: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        write(file)
    partial.replace(path)


def load_staged(index: int, folder: str | Path) -> dict[str, Any]:
    """The record that `stage` left."""
    with np.load(Path(folder) / f"{index}.npz", allow_pickle=False) as content:
        record = {name: content[name] for name in content.files}
    for name in ("num_electrons", "negative_fraction"):
        record[name] = np.float32(record[name])
    return record | {name: str(record[name]) for name in _TEXTS}


def stage_all(rows: Sequence[Row], folder: Path, size: int, workers: int) -> list[Outcome]:
    """Stages rows in this process, or in several.

    Args:
        workers: processes.

    Returns:
        Outcomes in the order of the rows.

    Raises:
        DatasetSourceError: a process was killed.
    """
    bar = {"total": len(rows), "unit": "density", "disable": None, "desc": "Reading"}
    if workers <= 1:
        return [stage(row, str(folder), size) for row in tqdm(rows, **bar)]
    context = multiprocessing.get_context("spawn")  # threads of JAX do not survive a fork
    count = len(rows)
    try:
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
            found = executor.map(stage, rows, [str(folder)] * count, [size] * count, chunksize=4)
            return list(tqdm(found, **bar))
    except concurrent.futures.process.BrokenProcessPool as error:
        raise DatasetSourceError(
            f"one of {workers} processes that read densities was killed, perhaps for want of "
            "memory: build with fewer, python -m tfds_builders ... --workers=1 (what was read so "
            "far is kept)"
        ) from error


def stage_with_beam(
    rows: Sequence[Row], folder: Path, size: int, options: Any, runner: Any = None
) -> list[Outcome]:
    """Stages rows with an Apache Beam pipeline; `folder` must be on a disk that all workers share.

    Args:
        options: `apache_beam.options.pipeline_options.PipelineOptions`.
        runner: a Beam runner, None for the one that the options name.
    """
    import apache_beam as beam  # an extra

    with beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(rows), reshuffle=True)
            | beam.Map(stage, folder=str(folder), size=size)
        )
    missing = [row.file for row in rows if not (folder / f"{row.index}.json").exists()]
    if missing:
        raise DatasetSourceError(
            f"{folder} on this machine lacks {len(missing)} records that Beam's workers wrote "
            f"({missing[0]}): put --data_dir on a disk that all of them share"
        )
    return [Outcome(**json.loads((folder / f"{row.index}.json").read_text())) for row in rows]
