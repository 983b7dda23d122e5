"""Scores of materials with an element that what predicts them was not fitted on.

A material with a new element is no draw from the chemistry of the training: intervals that are
calibrated there hold the truth too seldom. So every element of the training materials is left out
in turn: the kernels of the mixture are fitted without the materials that hold it, in closed form
with the settings that they have, and say these. The network, which would have to be trained again,
and the kernels on the elements that the density tells, which cannot tell a new one, take no part.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy.spatial.distance import cdist

from densityjax.data.records import Records
from densityjax.results import gaussian_process as gp
from densityjax.results.calibration import NEAREST
from densityjax.results.interval_scale import Evidence
from densityjax.results.learner_file import load_learners
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import as_trained, read_stack
from densityjax.results.yardsticks import Yardstick
from densityjax.targets import TargetSpec, from_intensive
from densityjax.training.setup import load_folds, load_role

FEWEST_MATERIALS = 2  # with an element, for it to be left out
_UNFIT = "density"  # the yardstick that tells elements
Predicted = dict[str, dict[str, np.ndarray]]  # {target: {kernel: [pairs] as trained}}


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Pairs of a material and an element that was left out with it.

    Attributes:
        rows: int [pairs] of the materials among all out-of-fold ones.
        elements: int [pairs] atomic numbers.
        evidence: of the pairs.
        known: {target: bool [pairs], whether kernels without the element predict it}.
    """

    rows: np.ndarray
    elements: np.ndarray
    evidence: Evidence
    known: dict[str, np.ndarray]


def leave_elements_out(
    run: RunDirectory, config: ConfigDict, builder: Any, specs: Sequence[TargetSpec],
    tables: Mapping[str, TargetPredictions], evidence: Evidence,
) -> LeftOut | None:
    """Leaves out every element with `FEWEST_MATERIALS` in turn.

    Args:
        run: a rotated ensemble; None is returned for one whose mixture has no kernels that can be
          fitted again.
        tables, evidence: of its out-of-fold materials.
    """
    own = run if run.learners.exists() else run.members()[0]
    if not own.learners.exists() or not run.stack.exists():
        return None
    yardsticks = own.load(own.learners, lambda path: load_learners(path, specs))
    yardsticks = {name: known for name, known in yardsticks.items() if name != _UNFIT}
    records = _fitted_records(run, own, config, builder, specs)
    if not yardsticks or len(records) != len(next(iter(
        next(iter(yardsticks.values())).blocks.values()
    ))):
        return None  # only some of the rows were kept
    place = {name: row for row, name in enumerate(tables[specs[0].name].ids)}
    rows = np.array([place[str(name)] for name in records.material_id])
    groups = _groups(records)
    weights = run.load(run.stack, read_stack).weights
    pairs = np.concatenate(list(groups.values()))  # of records
    elements = np.repeat(list(groups), [len(group) for group in groups.values()])
    said = _predict(yardsticks, specs, groups, pairs, tables, evidence, rows)
    return _assemble(
        specs, said, weights, evidence, rows[pairs], elements, rows, list(groups.values())
    )


def _fitted_records(
    run: RunDirectory, own: RunDirectory, config: ConfigDict, builder: Any,
    specs: Sequence[TargetSpec],
) -> Records:
    """The rows that the kernels were fitted on, in their order."""
    data = config.data
    if own == run:
        folds = (data.validation_fold, *data.train_folds)
        return load_folds(
            config, builder, specs, folds, False, features=False,
            without_elements=tuple(data.held_out_elements),
        )
    member = config.copy_and_resolve_references()
    member.update(own.read_config("data"))
    return load_role(member, builder, specs, "train", cache_in_memory=False, features=False)


def _groups(records: Records) -> dict[int, np.ndarray]:
    """{element: rows of the records that hold it}, of elements that can be left out."""
    held = [set(species.tolist()) for species in records.species]
    found = {}
    for element in sorted(set().union(*held)):
        rows = np.flatnonzero([element in own for own in held])
        if FEWEST_MATERIALS <= len(rows) <= len(records) - FEWEST_MATERIALS:
            found[element] = rows
    return found


def _predict(
    yardsticks: Mapping[str, Yardstick], specs: Sequence[TargetSpec],
    groups: Mapping[int, np.ndarray], pairs: np.ndarray,
    tables: Mapping[str, TargetPredictions], evidence: Evidence, rows: np.ndarray,
) -> Predicted:
    """What kernels say of every pair, NaN where a material has no label."""
    said: Predicted = {}
    cells = evidence.cells.rows(rows)
    for name, yardstick in yardsticks.items():
        for kind in gp.KINDS:
            apart = {b: gp.distances(kind, v, v) for b, v in yardstick.blocks.items()}
            for spec in specs:
                learners = yardstick.learners[spec.name]
                process = next((p for p in learners.processes if p.kind == kind), None)
                if process is None or spec.kind == "classification" or spec.identity is not None:
                    continue
                labels = as_trained(spec, tables[spec.name].truth[rows], cells)
                part = {b: v[np.ix_(learners.rows, learners.rows)] for b, v in apart.items()}
                own = [np.flatnonzero(np.isin(learners.rows, group)) for group in groups.values()]
                errors = gp.leave_groups_out(process, part, own)
                found = []
                for group, held, error in zip(groups.values(), own, errors, strict=True):
                    values = np.full(len(labels), np.nan)
                    values[learners.rows[held]] = labels[learners.rows[held]] - error[:, 0]
                    found.append(values[group])
                said.setdefault(spec.name, {})[f"{name}_{kind}"] = np.concatenate(found)
    return said


def _assemble(
    specs: Sequence[TargetSpec], said: Predicted, weights: Mapping[str, Mapping[str, float]],
    evidence: Evidence, rows: np.ndarray, elements: np.ndarray, fitted: np.ndarray,
    groups: Sequence[np.ndarray],
) -> LeftOut:
    """The evidence of every pair: where no kernel says anything, that of the whole model."""
    cells = evidence.cells.rows(rows)
    values = {name: known[rows] for name, known in evidence.values.items()}
    learners = {name: known[rows].copy() for name, known in evidence.learners.items()}
    known = {}
    for spec in specs:
        if spec.name not in said:
            continue
        own = weights[spec.name]
        share = np.array([own.get(kernel, 0.0) for kernel in said[spec.name]])
        columns = np.stack(list(said[spec.name].values()))  # [kernels, pairs]
        share = share / share.sum() if share.sum() > 0 else np.full(len(share), 1 / len(share))
        mixed = share @ columns
        known[spec.name] = np.isfinite(mixed)
        answer = from_intensive(spec, mixed, cells.num_electrons, cells.volume)
        values[spec.name] = np.where(known[spec.name], answer, values[spec.name])
        spread = columns.std(axis=0)
        learners[spec.name] = np.where(known[spec.name], spread, learners[spec.name])
    components, distance = evidence.components[fitted], []
    for group in groups:
        kept = np.setdiff1d(np.arange(len(fitted)), group)
        nearest = np.sort(cdist(components[group], components[kept]), axis=1)[:, :NEAREST]
        distance.append(nearest.mean(axis=1))
    found = Evidence(
        evidence.specs, values, {name: own[rows] for name, own in evidence.views.items()},
        learners, np.concatenate(distance), evidence.components[rows], cells,
        evidence.num_atoms[rows],
    )
    return LeftOut(rows, elements, found, known)
