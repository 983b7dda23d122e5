"""The calibration of a finished run, from its tables of predictions and its dataset.

A rotated ensemble calibrates on the out-of-fold predictions of all its training folds, another run
on its validation fold, whose labels chose its best state: no row is of the test fold.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.config import NO_FOLD, completed
from densityjax.data.dataset import open_from_config
from densityjax.data.records import Records
from densityjax.features.composition import compositions
from densityjax.features.reduction import fit_reduction
from densityjax.results import conformal, coverage
from densityjax.results.calibration import (
    Calibration,
    ClassCalibration,
    Reference,
    RegressionCalibration,
    hash_of,
)
from densityjax.results.interval_scale import (
    Choice,
    Evidence,
    choose,
    spreads_as_trained,
)
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import Cells, as_trained
from densityjax.runtime.errors import UserError
from densityjax.runtime.files import replace_json
from densityjax.targets import TargetSpec, labelled
from densityjax.training.leave_elements_out import (
    FEWEST_MATERIALS,
    LeftOut,
    leave_elements_out,
)
from densityjax.training.mixture import NETWORK, cells_of, column_names
from densityjax.training.setup import load_role

log = logging.getLogger("densityjax")

COMPONENTS = 20  # of composition, in which distances are
REFERENCE_ROWS = 4000  # training materials that are kept, at most
FEWEST_ELEMENTS = 9  # that must have been left out: with fewer 0.9 has no threshold
LEAST_SURE = 3  # materials named per target
COVERAGE = 0.9  # of what is reported, and at which the kind of class scores is chosen


@dataclasses.dataclass(frozen=True)
class Gathered:
    """The materials of a split with all that a run says of them.

    Attributes:
        tables: {target: predictions}, of the n materials in one order.
        evidence: of the same.
        systems: [n] chemical systems.
        species: n arrays of atomic numbers.
    """

    tables: dict[str, TargetPredictions]
    evidence: Evidence
    systems: np.ndarray
    species: list[np.ndarray]


def calibrate_run(
    workdir: str | Path, data_dir: str = "", new_elements: bool = False
) -> Calibration:
    """Makes calibration.npz of a finished run, and intervals.json of how it fares on the test fold.

    Args:
        data_dir: where its dataset is now; '' is where it was.
        new_elements: refuse a run that does not support intervals of new elements.

    Raises:
        UserError: it is no finished run, a file is damaged, or its dataset is not there.
    """
    run = RunDirectory(Path(workdir))
    made = make_calibration(run, data_dir)
    if new_elements:
        check_elements(run, made)
    made.save(run.calibration)
    replace_json(run.intervals, measure_intervals(run, made, data_dir))
    log.info("Calibrated on %s", made.source)
    return made


def check_elements(run: RunDirectory, calibration: Calibration) -> None:
    """Raises UserError where no target has scores of `FEWEST_ELEMENTS` elements left out."""
    counts = [
        len(np.unique(own.elements)) for own in calibration.targets.values()
        if isinstance(own, RegressionCalibration)
    ]
    if max(counts, default=0) < FEWEST_ELEMENTS:
        raise UserError(
            f"{run.path}: elements are left out of rotated ensembles (config.ensemble.rotate) with "
            f"kernels on composition, structure or invariants (config.stack.learners) and at least "
            f"{FEWEST_ELEMENTS} elements in {FEWEST_MATERIALS} materials or more; calibrate it "
            "without --leave_elements_out"
        )


def make_calibration(run: RunDirectory, data_dir: str = "") -> Calibration:
    """The calibration that `calibrate_run` leaves."""
    config, builder, specs = open_run(run, data_dir)
    reference, elements = fit_reference(run, builder, specs)
    gathered = gather(run, builder, specs, "validation", reference)
    fold, left_out = config.data.validation_fold, None
    source = f"validation fold {fold}, whose labels also chose the state that predicts"
    if config.ensemble.rotate and len(run.members()) > 1:
        folds = sorted([fold, *config.data.train_folds])
        source = f"out-of-fold predictions of folds {', '.join(map(str, folds))}"
        left_out = leave_elements_out(
            run, config, builder, specs, gathered.tables, gathered.evidence
        )
    targets, facts = {}, {}
    for spec in specs:
        found = _calibrate_target(spec, gathered, left_out)
        if found is not None:
            targets[spec.name], facts[spec.name] = found
    return Calibration(source, hash_of(run), reference, targets, facts, elements)


def measure_intervals(
    run: RunDirectory, calibration: Calibration, data_dir: str = ""
) -> dict[str, Any]:
    """How intervals of the test fold hold the truth, JSON-safe: for people, nothing learns from it.

    A target has the content of `coverage.measure` and the materials that are least sure.
    """
    config, builder, specs = open_run(run, data_dir)
    targets: dict[str, Any] = {}
    measured = {"source": calibration.source, "fold": config.data.test_fold, "targets": targets}
    if config.data.test_fold == NO_FOLD:
        return measured  # the rows at hand are those of the calibration
    known = gather(run, builder, specs, "test", calibration.reference)
    gap = known.tables.get("band_gap")
    metal = None if gap is None else np.where(np.isfinite(gap.truth), gap.truth <= 0, np.nan)
    parts = coverage.strata(known.evidence, metal)
    for spec in specs:
        table, own = known.tables[spec.name], calibration.targets.get(spec.name)
        rows = np.flatnonzero(labelled(spec, table.truth))
        if own is None or not len(rows) or own.num_systems < 9:
            continue  # too few for anything to be said at 0.9
        if isinstance(own, ClassCalibration):
            targets[spec.name] = coverage.measure_classes(
                own.sets(table.prediction[rows], COVERAGE), table.truth[rows].astype(int),
                known.systems[rows], spec.classes,
            )
            continue
        found = coverage.hold(calibration, spec, known.evidence, table.truth)
        targets[spec.name] = coverage.measure(found, known.systems, parts)
        targets[spec.name]["elements"] = calibration.facts[spec.name].get("elements_left_out")
        targets[spec.name]["least_sure"] = _least_sure(calibration, known, spec)
    return measured


def _least_sure(calibration: Calibration, known: Gathered, spec: TargetSpec) -> list[dict]:
    """The materials with the widest intervals."""
    low, high = calibration.interval(spec, known.evidence, COVERAGE)
    table = known.tables[spec.name]
    widest = np.argsort(low - high, kind="stable")[:LEAST_SURE]
    return [
        {
            "id": table.ids[row], "formula": table.formulas[row],
            "truth": float(table.truth[row]) if np.isfinite(table.truth[row]) else None,
            "prediction": float(table.prediction[row]), "lower": float(low[row]),
            "upper": float(high[row]), "distance": float(known.evidence.distance[row]),
        }
        for row in widest.tolist()
    ]


def open_run(
    run: RunDirectory, data_dir: str = ""
) -> tuple[ConfigDict, Any, tuple[TargetSpec, ...]]:
    """(config, builder of the dataset, targets) of a finished run."""
    run.check_predicts()
    config = completed(run.read_config("targets", "data"))
    run.read_facts("finished")
    if data_dir:
        config.data.data_dir = data_dir
    return config, open_from_config(config.data), run.read_specs(config.targets)


def _configs(run: RunDirectory) -> list[tuple[RunDirectory, ConfigDict]]:
    return [(own, completed(own.read_config("targets", "data"))) for own in run.members()]


def fit_reference(
    run: RunDirectory, builder: Any, specs: Sequence[TargetSpec]
) -> tuple[Reference, np.ndarray]:
    """What distances of a run are measured from, and the elements that any member trains on."""
    parts, of_member, elements = {}, [], []
    for _, config in _configs(run):
        records = load_role(
            config, builder, specs, "train", cache_in_memory=False, features=False
        )
        elements.append(records.species.values)
        ids = [str(name) for name in records.material_id]
        new = [row for row, name in enumerate(ids) if name not in parts]
        if new:
            features = compositions(records.species, records.lattice)
            parts |= {ids[row]: features[row] for row in new}
        of_member.append(set(ids))
    ids, features = list(parts), np.stack(list(parts.values()))
    if len(ids) > REFERENCE_ROWS:
        chosen = np.random.default_rng(0).choice(len(ids), REFERENCE_ROWS, replace=False)
        ids, features = [ids[row] for row in chosen], features[chosen]
    reduction = fit_reduction(features, COMPONENTS)
    trained = np.array([[name in own for name in ids] for own in of_member])
    reference = Reference(reduction, reduction(features), trained)
    return reference, np.unique(np.concatenate(elements))


def gather(
    run: RunDirectory, builder: Any, specs: Sequence[TargetSpec], split: str, reference: Reference
) -> Gathered:
    """What a run says of a split, its members' spreads averaged over those that predict a row."""
    tables = run.read_predictions(specs, split)
    ids = tables[specs[0].name].ids
    place = {name: row for row, name in enumerate(ids)}
    members, known, configs = [], {}, _configs(run)
    for member, config in configs:
        records = load_role(config, builder, specs, split, cache_in_memory=False, features=False)
        rows = np.array([place[str(name)] for name in records.material_id])
        known |= {row: (records, own) for own, row in enumerate(rows.tolist())}
        members.append((rows, *_spreads(member, config, specs, split, records)))
    first = [known[row] for row in range(len(ids))]
    species = [records.species[row] for records, row in first]
    lattice = np.stack([records.lattice[row] for records, row in first])
    components = reference.reduction(compositions(species, lattice))
    apart = reference.distances(components)  # [M, n]
    distance = _mean_rows([(rows, apart[m, rows]) for m, (rows, *_) in enumerate(members)])
    spreads = [
        {name: _mean_rows([(part[0], part[kind][name]) for part in members])
         for name in members[0][kind]}
        for kind in (1, 2)
    ]
    electrons = np.array([records.num_electrons[row] for records, row in first])
    cells = Cells(electrons, np.abs(np.linalg.det(lattice)))
    names = column_names(configs[0][1])
    if len(members) > 1 and names and run.learner_predictions(names[0], split).exists():
        # An ensemble whose kernels are fitted once more to all rows answers with those.
        whole = {name: run.read_learner(name, specs, split) for name in names}
        spreads[1] = spreads_as_trained(specs, {}, {}, _values(whole), cells)[1]
    evidence = Evidence(
        tuple(specs), {name: table.prediction for name, table in tables.items()}, *spreads,
        distance, components, cells,
        np.array([len(own) for own in species]),
    )
    systems = np.array([records.chemical_system[row] for records, row in first])
    return Gathered(tables, evidence, systems, species)


def _mean_rows(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """[n] means of values [k] at rows [k], over the parts that have a row."""
    rows = np.concatenate([own for own, _ in parts])
    sums = np.bincount(rows, np.concatenate([values for _, values in parts]))
    return sums / np.bincount(rows)


def _spreads(
    member: RunDirectory, config: ConfigDict, specs: Sequence[TargetSpec], split: str,
    records: Records,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Spread over views and between learners of a member, as trained, in the order of records."""
    names = column_names(config)
    learners = {name: member.read_learner(name, specs, split) for name in names}
    network = learners.get(NETWORK) if names else member.read_predictions(specs, split)
    columns = _values(learners)
    views = {} if network is None else {name: own.spread for name, own in network.items()}
    values = {} if network is None else {name: own.prediction for name, own in network.items()}
    return spreads_as_trained(specs, views, values, columns, cells_of(records))


def _values(
    learners: Mapping[str, Mapping[str, TargetPredictions]]
) -> dict[str, dict[str, np.ndarray]]:
    """{learner: {target: predictions}} of tables."""
    return {
        name: {target: table.prediction for target, table in own.items()}
        for name, own in learners.items()
    }


def _calibrate_target(
    spec: TargetSpec, gathered: Gathered, left_out: LeftOut | None
) -> tuple[RegressionCalibration | ClassCalibration, dict[str, Any]] | None:
    """(calibration, what was chosen); None for a target without labels."""
    table = gathered.tables[spec.name]
    rows = np.flatnonzero(labelled(spec, table.truth))
    if not len(rows):
        return None
    names, systems = np.unique(gathered.systems[rows], return_inverse=True)
    facts: dict[str, Any] = {"rows": len(rows), "systems": len(names)}
    if spec.kind == "classification":
        probabilities, labels = table.prediction[rows], table.truth[rows].astype(int)
        sizes = {}
        for kind in conformal.CLASS_SCORES:
            own = ClassCalibration(kind, probabilities, labels, systems)
            sizes[kind] = float(own.sets(probabilities, COVERAGE).sum(axis=1).mean())
        kind = min(sizes, key=sizes.get)
        facts |= {"kind": kind, "sizes": sizes}
        return ClassCalibration(kind, probabilities, labels, systems), facts
    evidence = gathered.evidence
    cells = evidence.cells.rows(rows)
    residuals = as_trained(spec, table.truth[rows], cells) - as_trained(
        spec, table.prediction[rows], cells
    )
    weights = conformal.system_weights(systems)
    chosen = choose(spec, evidence, rows, residuals, systems, weights)
    facts |= {
        "scale": chosen.scale.kind, "reach": chosen.scale.reach,
        "asymmetric": chosen.asymmetric, "widths": chosen.widths,
        "held_out_coverage": conformal.held_out_coverage(
            residuals / chosen.sigma, systems, COVERAGE, chosen.asymmetric
        ),
    }
    beyond, elements = _beyond(spec, gathered, rows, chosen, left_out)
    own = RegressionCalibration(
        chosen.scale, chosen.asymmetric, residuals / chosen.sigma, residuals, systems, beyond,
        elements, chosen.exact,
    )
    if len(beyond):
        facts["elements_left_out"] = _coverage_beyond(own)
    return own, facts


def _beyond(
    spec: TargetSpec, gathered: Gathered, rows: np.ndarray, chosen: Choice,
    left_out: LeftOut | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(scores, elements) of the pairs of a material and an element that was left out."""
    nothing = np.zeros(0), np.zeros(0, int)
    if left_out is None or spec.name not in left_out.known:
        return nothing
    known, pairs = left_out.known[spec.name], left_out.evidence
    place = np.searchsorted(rows, left_out.rows[known])  # of the calibration rows
    if len(np.unique(left_out.elements[known])) < FEWEST_ELEMENTS:
        return nothing
    truth = as_trained(spec, gathered.tables[spec.name].truth[left_out.rows], pairs.cells)
    error = (truth - as_trained(spec, pairs.values[spec.name], pairs.cells))[known]
    # Where no kernel says anything the row of another material stands in, and is not used.
    everywhere = np.zeros(len(known), int)
    everywhere[known] = place
    sigma = chosen.sigma_of(spec.name, pairs, everywhere)[known]
    return error / sigma, left_out.elements[known]


def _coverage_beyond(own: RegressionCalibration) -> dict[str, float]:
    """Mean over the elements of the coverage at 0.9 of each: as usual, and by the other elements.

    'worst' is that of the worst element, as usual and by the others.
    """
    limits, held = own.thresholds(COVERAGE), []
    usual = (own.beyond <= limits.upper) & (-own.beyond <= limits.lower)
    for element in np.unique(own.elements):
        left = own.elements == element
        others = dataclasses.replace(own, beyond=own.beyond[~left], elements=own.elements[~left])
        limit = others.thresholds_beyond(COVERAGE)
        by_others = (own.beyond[left] <= limit.upper) & (-own.beyond[left] <= limit.lower)
        held.append((usual[left].mean(), by_others.mean()))
    mean, worst = np.mean(held, axis=0), np.min(held, axis=0)
    return {
        "elements": len(held), "usual": float(mean[0]), "by_others": float(mean[1]),
        "worst_usual": float(worst[0]), "worst_by_others": float(worst[1]),
    }
