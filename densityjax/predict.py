"""Predicts density files: `python -m densityjax.predict --workdir=runs/elastic FILE...`."""

import argparse
import csv
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from densityjax.density import grid
from densityjax.density.reader import Density, DensityFormatError, read_density
from densityjax.density.reader import find_files as find_in_folder
from densityjax.results.applicability import Applicability
from densityjax.results.predictions import Predictions, physical
from densityjax.runtime import compile_cache
from densityjax.step import parallel
from densityjax.step.create_task import create_task, field_size
from densityjax.step.scalers import Statistics
from densityjax.step.train_state import TrainState, create_train_state
from densityjax.targets import TargetSpec, read_specs
from densityjax.training.checkpoint import CheckpointError, Checkpoints

COLUMNS = ("file", "formula", "target", "prediction", "unit", "warnings", "spread", "probability")


class RestoreError(RuntimeError):
    """A directory does not hold a finished run; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A trained model, ready to predict.

    Attributes:
        mapped: predict step over all devices, see `parallel.mapped_predict_step`.
    """

    config: ConfigDict
    specs: tuple[TargetSpec, ...]
    statistics: Statistics
    applicability: Applicability
    state: TrainState
    mapped: Callable


def restore_run(workdir: str | Path) -> Restored:
    """Restores the best state of a run and everything that was fitted with it.

    Raises:
        RestoreError: `workdir` is not the directory of a finished run.
    """
    workdir = Path(workdir)
    for name in ("config.json", "statistics.json", "applicability.npz", "checkpoints/best"):
        if not (workdir / name).exists():
            raise RestoreError(
                f"--workdir={workdir} is not the directory of a finished run, it has no {name}: "
                f"train one with 'python -m densityjax.main --config=... --workdir={workdir}'"
            )
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    specs = read_specs(workdir, config.targets)
    statistics = Statistics.load(workdir / "statistics.json")
    applicability = Applicability.load(workdir / "applicability.npz")
    task = create_task(config, specs, num_steps=1)  # the length of the schedule is of no use here
    template = create_train_state(
        task.model, task.tx, statistics.arrays(), config.seed,
        field_size(config, applicability.grid),
    )
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        restored = checkpoints.restore_best(parallel.replicate(template))
    finally:
        checkpoints.close()
    if restored is None:
        raise RestoreError(f"--workdir={workdir} has no checkpoint: train it further")
    mapped = parallel.mapped_predict_step(task, config.view.evaluation_views)
    return Restored(config, specs, statistics, applicability, restored[0], mapped)


def restore_groups(workdir: str | Path) -> tuple[Restored, ...]:
    """Restores a run, or every run that a grouped one joins, see `densityjax.grouped_training`.

    Raises:
        RestoreError: as `restore_run`.
    """
    workdir = Path(workdir)
    facts = workdir / "run.json"
    groups = json.loads(facts.read_text()).get("groups", ()) if facts.exists() else ()
    folders = [workdir / group["directory"] for group in groups] or [workdir]
    return tuple(restore_run(folder) for folder in folders)


def to_stored_grid(restored: Restored, density: Density) -> Density:
    """The density on the grid of the run's dataset, which the model expects."""
    size, spin = restored.applicability.grid, density.magnetization
    return dataclasses.replace(
        density,
        values=grid.resample(density.values, size),
        magnetization=None if spin is None else grid.resample(spin, size),
    )


def predict_densities(
    restored: Restored, densities: Sequence[Density], batch_size: int = 0
) -> tuple[Predictions, list[list[str]]]:
    """Predicts materials in one go, as evaluation predicts the records made from them.

    Args:
        densities: on any grids.
        batch_size: pad to this many, so that calls share one compilation.

    Returns:
        (predictions, without losses; warnings of each material).
    """
    channels = restored.config.input.channels
    # Rounded to what a record holds, so that a record's own file gives the record's prediction.
    lattice = np.stack([d.lattice for d in densities]).astype(np.float32)  # [n, 3, 3] Å
    num_electrons = np.asarray([d.num_electrons for d in densities], np.float32)  # [n]
    batch = {
        "density": np.stack([_field(to_stored_grid(restored, d), channels) for d in densities]),
        "lattice": lattice,
        "num_electrons": num_electrons,
    }
    raw, embedding = parallel.predict_batch(restored.mapped, restored.state, batch, batch_size)
    volume = np.abs(np.linalg.det(lattice.astype(np.float64)))  # [n] Å^3
    values, spread = {}, {}
    for column, spec in enumerate(restored.specs):
        values[spec.name], spread[spec.name] = physical(
            spec, raw[spec.name], restored.statistics.label_mean[column],
            restored.statistics.label_std[column], num_electrons.astype(np.float64), volume,
        )
    predictions = Predictions(values, spread, {}, embedding)
    distances = restored.applicability.distances(predictions.embedding)
    warnings = [
        [*density.notes, *restored.applicability.warnings_for(density, distance)]
        for density, distance in zip(densities, distances, strict=True)
    ]
    if channels == 2:
        for density, found in zip(densities, warnings, strict=True):
            if density.magnetization is None:
                found.append("no magnetisation in the file, taken as zero")
    return predictions, warnings


def _field(density: Density, channels: int) -> np.ndarray:
    """[G, G, G, channels] float32 e/Å^3 and μB/Å^3."""
    fields = [density.values]
    if channels == 2:
        spin = density.magnetization
        fields.append(np.zeros_like(density.values) if spin is None else spin)
    return np.stack(fields, axis=-1).astype(np.float32)


def predict_files(restored: Sequence[Restored], paths: Sequence[Path], file: TextIO) -> int:
    """Writes a table of predictions, one row per readable file and target, in order.

    Args:
        restored: models of the same dataset, each of its own targets.

    Columns: file, formula, target; prediction (in full, or the name of the class); unit ('class'
    for classes, empty for pure numbers); warnings joined by '; '; spread, the standard deviation
    over views (of the class's probability); probability of the class. A file that cannot be read
    gets one row, with the reason in `warnings`.

    Returns:
        How many files could not be read.
    """
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    size = min(restored[0].config.train.batch_size, len(paths))
    unreadable = 0
    for start in tqdm(range(0, len(paths), size), unit="batch", disable=None):
        # Resampled one by one: densities on their own grids may take gigabytes.
        densities: list[Density | str] = []
        for path in paths[start : start + size]:
            try:
                densities.append(to_stored_grid(restored[0], read_density(path)))
            except DensityFormatError as error:
                densities.append(f"error: {error}")
        readable = [d for d in densities if isinstance(d, Density)]
        tables = [_rows(model, readable, size) for model in restored] if readable else []
        rows = iter(zip(*tables, strict=True))  # of each density, those of every model
        for path, density in zip(paths[start : start + size], densities, strict=True):
            if isinstance(density, str):
                unreadable += 1
                writer.writerow({"file": path, "warnings": density})
            else:
                writer.writerows(row for table in next(rows) for row in table)
        file.flush()
    return unreadable


def _rows(restored: Restored, densities: Sequence[Density], size: int) -> list[list[dict]]:
    """Rows of the table for each density."""
    predictions, warnings = predict_densities(restored, densities, size)
    table = []
    for row, (density, found) in enumerate(zip(densities, warnings, strict=True)):
        rows = []
        for spec in restored.specs:
            value, unit, probability = predictions.values[spec.name][row], spec.unit, ""
            if spec.kind == "classification":
                probability = repr(float(value.max()))
                value, unit = spec.classes[value.argmax()], "class"
            else:
                value = repr(float(value))
            rows.append({
                "file": density.source, "formula": density.formula, "target": spec.name,
                "prediction": value, "unit": unit, "warnings": "; ".join(found),
                "spread": repr(float(predictions.spread[spec.name][row])),
                "probability": probability,
            })
        table.append(rows)
    return table


def find_files(arguments: Sequence[str]) -> list[Path]:
    """Files as given; a folder stands for its density files, see `density_io.find_files`.

    Raises:
        ValueError: a folder has none.
    """
    paths = []
    for argument in map(Path, arguments):
        if not argument.is_dir():
            paths.append(argument)
            continue
        found = find_in_folder(argument)
        if not found:
            raise ValueError(
                f"folder {argument} has no file with the name of a density: CHGCAR, CHG, AECCAR, "
                "PARCHG, .cube, .xsf, or compressed .json"
            )
        paths += found
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.predict",
        description="Predicts properties from charge densities with a trained model.",
        epilog="Exit status: 0 all predicted, 1 some files could not be read (their rows say why), "
        "2 nothing could be done.",
    )
    parser.add_argument("--workdir", required=True, help="directory of a finished run")
    parser.add_argument("--out", default="-", help="CSV to write, '-' (default) = standard output")
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="VASP densities, Materials Project JSON, cube or XSF, plain or compressed; a folder "
        "stands for its density files",
    )
    options = parser.parse_args(arguments)
    compile_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    try:
        paths = find_files(options.files)
        restored = restore_groups(options.workdir)
    except (RestoreError, CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if options.out == "-":
            unreadable = predict_files(restored, paths, sys.stdout)
        else:
            with open(options.out, "w", newline="") as file:
                unreadable = predict_files(restored, paths, file)
    except OSError as error:
        print(f"error: --out={options.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    if unreadable:
        print(f"error: {unreadable} of {len(paths)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
