"""Predicts density files: `python -m densityjax.predict --workdir=runs/elastic FILE...`."""

import argparse
import contextlib
import csv
import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from densityjax.data.records import Records
from densityjax.density.plausibility import warnings_of
from densityjax.density.reader import Density, DensityFormatError, find_files, read_density
from densityjax.density.record import make_record
from densityjax.results import interval_cells
from densityjax.results.applicability import join_warnings
from densityjax.results.averages import average_parts, network_answer
from densityjax.results.calibration import Calibration, read_calibration
from densityjax.results.constraints import project
from densityjax.results.interval_scale import spreads_as_trained
from densityjax.results.predictions import (
    Predictions,
    features_of,
    predict_records,
    unlabelled_records,
)
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import IDENTITY
from densityjax.runtime import command_line, compile_cache
from densityjax.runtime.csv_cells import protect
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replaced
from densityjax.targets import TargetSpec
from densityjax.training import mixture
from densityjax.training.setup import describe
from densityjax.training.trained_model import Mixture, TrainedModel, restore_members

COLUMNS = ("file", "formula", "target", "prediction", "unit", "warnings", "spread", "probability")


@dataclasses.dataclass(frozen=True)
class Material:
    """What is kept of a density once it is on the grid of the model.

    Attributes:
        record: see `density.record.make_record`.
        source, code, notes: see `Density`.
    """

    record: Mapping[str, Any]
    source: str
    code: str
    notes: tuple[str, ...]


def make_material(density: Density, grid: int) -> Material:
    """A density as the builders of datasets store it, `grid` voxels along each axis.

    Raises:
        DensityFormatError: the stored density does not hold the electrons of its source.
    """
    notes = (*density.notes, *warnings_of(density))
    return Material(make_record(density, grid), density.source, density.code, notes)


def read_material(path: Path, grid: int) -> Material | str:
    """The material of a density file, or what is wrong with the file."""
    try:
        if "\0" in str(path):
            return f"{path}: a name with a NUL"
        return make_material(read_density(path), grid)
    except DensityFormatError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    except MemoryError:
        return f"{path}: this machine has too little memory for it"


def predict_materials(
    model: TrainedModel, materials: Sequence[Material], batch_size: int = 0
) -> tuple[Predictions, list[list[str]]]:
    """Predicts materials as evaluation predicts the records of a dataset.

    Args:
        materials: on the grid of the model.
        batch_size: so many at a time; 0 for all. Calls with the same share one compilation.

    Returns:
        (predictions, warnings of each material).
    """
    return _asked(model, materials, batch_size, _features(materials, model.needs_features))[:2]


def _features(materials: Sequence[Material], needed: bool) -> Mapping[str, Any] | None:
    """Features of the materials, which all models share."""
    return features_of([material.record for material in materials]) if needed else None


def _asked(
    model: TrainedModel, materials: Sequence[Material], batch_size: int,
    features: Mapping[str, Any] | None,
) -> tuple[Predictions, list[list[str]], tuple[dict, dict]]:
    """`predict_materials`, and the spreads of `spreads_as_trained`."""
    config, channels = model.config, model.config.input.channels
    records = model.described(unlabelled_records(
        [m.record for m in materials], model.specs, channels, features
    ))
    predictions = network_answer([
        predict_records(
            model.mapped, state, records, model.specs, model.statistics,
            batch_size or len(materials), config.train.num_threads,
        )
        for state in model.states
    ], model.specs, config.model.constraints)
    network, columns = predictions, {}
    if model.stack is not None:
        columns = mixture.ask(
            model.yardsticks, config.stack.learners, network, records, model.specs
        ).columns
        predictions = mixture.answer(model.stack, columns, network, records, model.specs)
    learners = {name: own for name, own in columns.items() if name != IDENTITY}
    sees_views = not learners or mixture.NETWORK in learners
    spreads = spreads_as_trained(
        model.specs, network.spread if sees_views else {}, network.values, learners,
        mixture.cells_of(records),
    )
    distances = model.applicability.distances(predictions.embedding)
    warnings = []
    for material, distance in zip(materials, distances, strict=True):
        found = model.applicability.warnings_for(material.record, material.code, distance)
        if channels > material.record["density"].shape[-1]:
            found.append("no magnetisation in the file, taken as zero")
        warnings.append([*material.notes, *found])
    return predictions, warnings, spreads


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of one target for n materials; the fields are those of `Predictions`.

    Attributes:
        values: [n] in the target's unit, or class probabilities [n, K].
        spread: [n] standard deviation over views, and over members of an ensemble.
        warnings: of each material.
        views, learners: [n] see `interval_scale.Evidence`; None where there is none.
    """

    spec: TargetSpec
    values: np.ndarray
    spread: np.ndarray
    warnings: list[list[str]]
    views: np.ndarray | None = None
    learners: np.ndarray | None = None


def answers(
    members: Sequence[Sequence[TrainedModel]], materials: Sequence[Material], batch_size: int = 0
) -> list[Answer]:
    """Predictions of every target, averaged over the members of an ensemble.

    Args:
        members: of each the models, which have their own targets; those of all members are equal.
        materials, batch_size: see `predict_materials`.
    """
    whole, models = members[0][0].whole, [model for own in members for model in own]
    needed = whole is not None or any(model.needs_features for model in models)
    features = _features(materials, needed)
    by_target: dict[str, list[Answer]] = {}
    for model in models:
        predictions, warnings, doubts = _asked(model, materials, batch_size, features)
        for spec in model.specs:
            values, spread = predictions.values[spec.name], predictions.spread[spec.name]
            found = Answer(spec, values, spread, warnings, *(own.get(spec.name) for own in doubts))
            by_target.setdefault(spec.name, []).append(found)
    found = [_average(parts) for parts in by_target.values()]
    if whole is None:
        specs, values = [a.spec for a in found], {a.spec.name: a.values for a in found}
        values = project(values, specs, models[0].config.model.constraints)
        return [dataclasses.replace(a, values=values[a.spec.name]) for a in found]
    made, channels = [material.record for material in materials], models[0].config.input.channels
    records = unlabelled_records(made, whole.specs, channels, features)
    return _mixed(whole, found, describe(records, whole.descriptors))


def _mixed(whole: Mixture, networks: Sequence[Answer], records: Records) -> list[Answer]:
    """What the mixture of an ensemble says, given the mean of its networks."""
    network = Predictions(
        {answer.spec.name: answer.values for answer in networks},
        {answer.spec.name: answer.spread for answer in networks}, {}, np.zeros((len(records), 0)),
    )
    columns = mixture.ask(
        whole.yardsticks, whole.learners, network, records, whole.specs
    ).columns
    said = mixture.answer(whole.stack, columns, network, records, whole.specs)
    learners = {name: own for name, own in columns.items() if name != IDENTITY}
    _, between = spreads_as_trained(whole.specs, {}, {}, learners, mixture.cells_of(records))
    return [
        dataclasses.replace(
            answer, values=said.values[answer.spec.name], spread=said.spread[answer.spec.name],
            views=None if answer.views is None else (mixture.NETWORK in learners) * answer.views,
            learners=between.get(answer.spec.name),
        )
        for answer in networks
    ]


def _average(parts: Sequence[Answer]) -> Answer:
    if len(parts) == 1:
        return parts[0]
    values, spread = average_parts([p.values for p in parts], [p.spread for p in parts])
    warnings = [join_warnings(found) for found in zip(*(part.warnings for part in parts))]
    return Answer(
        parts[0].spec, values, spread, warnings,
        *(None if own[0] is None else np.mean(own, axis=0)
          for own in ([p.views for p in parts], [p.learners for p in parts])),
    )


def _add_intervals(
    table: Sequence[Sequence[dict]], calibration: Calibration, coverages: Sequence[float],
    found: Sequence[Answer], materials: Sequence[Material],
) -> None:
    records = [material.record for material in materials]
    evidence = interval_cells.evidence_of(
        calibration.reference, [a.spec for a in found], {a.spec.name: a.values for a in found},
        {a.spec.name: a.views for a in found if a.views is not None},
        {a.spec.name: a.learners for a in found if a.learners is not None}, records,
    )
    beyond = interval_cells.beyond_training(calibration, records)
    ends = interval_cells.interval_cells(calibration, coverages, evidence, beyond)
    for row, (lines, far) in enumerate(zip(table, beyond, strict=True)):
        for target, line in enumerate(lines):
            line |= ends[target][row]
            if far:
                texts = [line["warnings"], interval_cells.BEYOND]
                line["warnings"] = "; ".join(filter(None, texts))


def predict_files(
    members: Sequence[Sequence[TrainedModel]], paths: Sequence[Path], file: TextIO,
    calibration: Calibration | None = None, coverages: Sequence[float] = (0.9,),
) -> int:
    """Writes a table of predictions, one row per readable file and target, in order.

    Args:
        members: see `answers`; of the same dataset.
        calibration: of their run; without one the columns of intervals stay empty.
        coverages: of the intervals.

    Columns: file, formula, target; prediction (in full, or the name of the class); unit ('class'
    for classes, empty for pure numbers); warnings joined by '; '; spread, the standard deviation
    over views and members (of the class's probability); probability of the class; lower and upper
    end of the interval, in the unit, or the set of classes joined by ';'. A file that
    cannot be read gets one row, with the reason in `warnings`.

    Returns:
        How many files could not be read.
    """
    added = interval_cells.interval_columns(coverages)
    columns = [*COLUMNS, *(name for names in added for name in names)]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    first = members[0][0]
    size = min(first.config.train.batch_size, len(paths))
    unreadable = 0
    for start in tqdm(range(0, len(paths), size), unit="batch", disable=None):
        chosen = paths[start : start + size]
        # One by one: densities on their own grids may take gigabytes.
        found = [read_material(path, first.applicability.grid) for path in chosen]
        readable = [material for material in found if isinstance(material, Material)]
        said = answers(members, readable, size) if readable else []
        table = _rows(said, readable)
        if calibration is not None and readable:
            _add_intervals(table, calibration, coverages, said, readable)
        rows = iter(table)
        for path, material in zip(chosen, found, strict=True):
            if isinstance(material, str):
                unreadable += 1
                writer.writerow({"file": protect(str(path)), "warnings": f"error: {material}"})
            else:
                writer.writerows(next(rows))
        file.flush()
    return unreadable


def _rows(found: Sequence[Answer], materials: Sequence[Material]) -> list[list[dict]]:
    """Rows of the table for each material."""
    table = []
    for row, material in enumerate(materials):
        rows = []
        for answer in found:
            spec = answer.spec
            value, unit, probability = answer.values[row], spec.unit, ""
            if spec.kind == "classification":
                probability = repr(float(value.max()))
                value, unit = protect(spec.classes[value.argmax()]), "class"
            else:
                value = repr(float(value))
            rows.append({
                "file": protect(material.source), "formula": protect(material.record["formula"]),
                "target": protect(spec.name), "prediction": value, "unit": protect(unit),
                "warnings": protect("; ".join(answer.warnings[row])),
                "spread": repr(float(answer.spread[row])),
                "probability": probability,
            })
        table.append(rows)
    return table


def expand_folders(arguments: Sequence[str]) -> list[Path]:
    """Files as given; a folder stands for its density files, see `density.reader.find_files`.

    Raises:
        UserError: a folder has none.
    """
    paths = []
    for argument in arguments:
        if not os.path.isdir(argument):  # unlike Path.is_dir no error for what cannot be a name
            paths.append(Path(argument))
            continue
        found = find_files(argument)
        if not found:
            raise UserError(
                f"folder {argument} has no file with the name of a density: CHGCAR, CHG, AECCAR, "
                "PARCHG, .cube, .xsf, or compressed .json"
            )
        paths += found
    return paths


def check_out(out: str, inputs: Sequence[Path]) -> None:
    """Raises UserError if the table would take the place of a file that is read."""
    for path in inputs:
        same = False
        with contextlib.suppress(OSError, ValueError):  # of files that are not or cannot be there
            same = os.path.realpath(out) == os.path.realpath(path) or os.path.samefile(out, path)
        if same:
            raise UserError(
                f"--out={out} is {path}, which is an input: give the table another name"
            )


@contextlib.contextmanager
def _opened(out: str) -> Iterator[TextIO]:
    """Standard output for '-'; a file takes its name once the table is whole."""
    if out == "-":
        yield sys.stdout
        return
    target = Path(os.path.realpath(out))  # of a link, what it points to is replaced
    try:
        if target.exists() and not target.is_file():  # /dev/stdout, a pipe
            with target.open("w", newline="", encoding="utf-8") as file:
                yield file
            return
        with replaced(target) as part, part.open("w", newline="", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status, 0 or 1.

    Raises:
        UserError: nothing could be done.
    """
    parser = argparse.ArgumentParser(
        prog="python -m densityjax.predict",
        description="Predicts properties from charge densities with a trained model.",
        epilog="Exit status: 0 all predicted, 1 some files could not be read (their rows say why), "
        "2 nothing could be done.",
    )
    parser.add_argument("--workdir", required=True, help="directory of a finished run")
    parser.add_argument("--out", default="-", help="CSV to write, '-' (default) = standard output")
    parser.add_argument(
        "--coverage", type=interval_cells.coverages_of, default=(0.9,), metavar="C[,C...]",
        help="how often intervals hold the truth: 0.9 (default), or several, 0.8,0.9",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE",
        help="VASP densities, Materials Project JSON, cube or XSF, plain or compressed; a folder "
        "stands for its density files",
    )
    options = parser.parse_args(arguments)
    compile_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every step of a restore
    paths = expand_folders(options.files)
    if options.out != "-":
        run = RunDirectory(Path(options.workdir))
        of_runs = [file for own in run.tree() for file in own.files]
        check_out(options.out, [*paths, *of_runs])
    members = restore_members(options.workdir)
    calibration = read_calibration(RunDirectory(Path(options.workdir)))
    if calibration is not None:
        calibration.check_coverages(options.coverage)
    with _opened(options.out) as file:
        unreadable = predict_files(members, paths, file, calibration, options.coverage)
    if calibration is None:
        print(interval_cells.NONE.format(options.workdir), file=sys.stderr)
    if unreadable:
        print(f"error: {unreadable} of {len(paths)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    command_line.run(main, failure=2)
