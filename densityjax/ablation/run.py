"""Trains the units of an ablation and joins their runs to cells."""

import dataclasses
import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from densityjax.ablation.plan import AblationError, Cell, Plan, Unit, own_units
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.runtime import files
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import flatten
from densityjax.training.compatibility import check_workdir
from densityjax.training.ensemble import train_ensemble
from densityjax.training.grouped_training import Shard, join_runs

log = logging.getLogger("densityjax")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a process has seen of an ablation.

    Attributes:
        missing: names of cells that are not complete, other shards' too.
        failures: {unit of this shard, or cell: what went wrong}.
    """

    missing: tuple[str, ...]
    failures: dict[str, str]


def run_ablation(config: ConfigDict, plan: Plan, workdir: Path, shard: Shard = (0, 1)) -> Outcome:
    """Trains a shard's units, skipping what has finished, and joins all complete cells.

    A unit that fails is written down and does not stop the others, and so is a cell that cannot be
    joined, because a file of its runs is damaged; the next call tries them again.

    Raises:
        AblationError: `workdir` holds another ablation.
    """
    check_base(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    files.replace_json(workdir / "ablation.json", json.loads(config.to_json_best_effort()))
    tuning = Tuning(workdir / "runs", config.tuning)
    units, missing = own_units(plan, shard), []
    failures: dict[str, str] = {}
    for place, unit in enumerate(units):
        clock = time.strftime("%H:%M:%S")
        log.info("%s Unit %d of %d: %s", clock, place + 1, len(units), unit.name)
        with _noted(unit.name, workdir, failures):
            train_unit(unit, tuning)
    for cell in plan.cells:
        complete = False
        with _noted(f"cell {cell.name}", workdir, failures):
            complete = _join(cell, tuning, cell_folder(workdir, cell))
        if not complete:
            missing.append(cell.name)
    return Outcome(tuple(missing), failures)


@contextmanager
def _noted(name: str, workdir: Path, failures: dict[str, str]) -> Iterator[None]:
    """Writes down what goes wrong, whatever it is: the other units and cells can do without."""
    note = workdir / "failures" / f"{name.replace('/', '_').replace(' ', '_')}.txt"
    try:
        yield
    except Exception as error:
        log.error("Failed: %s: %s", name, error)
        note.parent.mkdir(exist_ok=True)
        note.write_text(traceback.format_exc())
        failures[name] = f"{error} ({note})"
    else:
        note.unlink(missing_ok=True)


def _join(cell: Cell, tuning: "Tuning", folder: Path) -> bool:
    """Joins a cell's runs; False if one has not finished.

    Raises:
        UserError: a file of a run is damaged; names it and the remedy.
    """
    members = finished_members(cell, tuning)
    if members is None:
        return False
    try:
        join_runs(cell.config, members, folder)
    except UserError as error:
        # Runs that have finished are skipped, but not those that lack a file.
        raise UserError(
            f"{error}. If a file is damaged: delete it and run this command again, which "
            "evaluates its run anew"
        ) from error
    return True


def cell_folder(workdir: Path, cell: Cell) -> Path:
    """Where the joined run of a cell lies."""
    return workdir / "cells" / cell.name


class Tuning:
    """Where the runs of a unit lie, and which value of the tuned key it got.

    Every unit, whatever its number of targets, tries the same values with its first seed, and the
    one with the least validation loss is used for all seeds.
    """

    def __init__(self, root: Path, config: ConfigDict):
        """Of the section `tuning` of an ablation's config; `root` holds the runs."""
        self._root, self.key = root, config.key
        self.values = tuple(config.candidates) if config.key else (None,)

    def folder(self, unit: Unit, seed: int, value: Any) -> Path:
        """Directory of one run."""
        tuned = "" if value is None else f"_{self.key.rpartition('.')[2]}={value}"
        return self._root / unit.name / f"seed{seed}{tuned}"

    def chosen(self, unit: Unit) -> Any:
        """The value, None without tuning.

        Raises:
            LookupError: not all values have been tried.
        """
        if len(self.values) == 1:
            return self.values[0]
        losses = []
        for value in self.values:
            folder = self.folder(unit, unit.seeds[0], value)
            if not is_finished(folder):
                raise LookupError(folder)
            losses.append(RunDirectory(folder).read_metrics("best_validation_loss")["best_validation_loss"])
        return self.values[losses.index(min(losses))]


def train_unit(unit: Unit, tuning: Tuning) -> None:
    """Trains what has not finished of a unit's runs: the tuning, then the other seeds."""
    for value in tuning.values:
        _train(unit, unit.seeds[0], value, tuning)
    for seed in unit.seeds[1:]:
        _train(unit, seed, tuning.chosen(unit), tuning)


def _train(unit: Unit, seed: int, value: Any, tuning: Tuning) -> None:
    folder, config = tuning.folder(unit, seed, value), unit.run_config(seed, tuning.key, value)
    if is_finished(folder):
        check_workdir(config, folder)
        log.info("Finished before: %s", folder.name)
        return
    log.info("Run %s", folder.name)
    train_ensemble(config, folder, for_prediction=False)


def finished_members(cell: Cell, tuning: Tuning) -> list[tuple[tuple[str, ...], Path]] | None:
    """(Targets, directory of the run) of each group of a cell; None if one is not finished."""
    found = []
    for group, unit in cell.members:
        try:
            folder = tuning.folder(unit, cell.seed, tuning.chosen(unit))
        except LookupError:
            return None
        if not is_finished(folder):
            return None
        found.append((group, folder))
    return found


def is_finished(folder: Path) -> bool:
    """Whether a run has trained and evaluated to its end and has all its files.

    Raises:
        RunDirectoryError: its facts or metrics are damaged.
    """
    run = RunDirectory(folder)
    joined = (run.facts, run.metrics, run.history, *map(run.predictions, SPLITS))
    if not all(path.exists() for path in joined):
        return False
    run.read_metrics("best_validation_loss")
    return "finished" in run.read_facts()


def check_base(config: ConfigDict, workdir: Path) -> None:
    """Refuses the directory of another ablation; variants, splits and seeds may be added to one.

    Raises:
        AblationError: names the keys that differ.
    """
    path = workdir / "ablation.json"
    if not path.exists():
        return
    before, now = json.loads(path.read_text()), json.loads(config.to_json_best_effort())
    old, new = (flatten({k: c[k] for k in ("base", "tuning")}) for c in (before, now))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if keys:
        raise AblationError(
            f"{workdir} holds an ablation of another base, {', '.join(keys)} differ: use another "
            "--workdir, or remove this one to start over"
        )
