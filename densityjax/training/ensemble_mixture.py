"""The mixture of an ensemble: weights from out-of-fold predictions, one answer per material.

The weights of the learners are fitted to the predictions of the members that validated on a
material, none of which trained on it. What answers then is the mean of the members' networks, and
the other learners fitted once more, to all rows that any member trains on.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.data.records import Records
from densityjax.features.descriptors import Descriptors, fit_descriptors
from densityjax.results.averages import average_tables
from densityjax.results.baselines import baseline_metrics
from densityjax.results.identities import identities
from densityjax.results.metrics import Metrics, metrics_of
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import RunDirectory
from densityjax.results.stack import IDENTITY, Cells, Columns, Stack, cross_fitted, fit_stack
from densityjax.results.yardsticks import Yardstick
from densityjax.targets import TargetSpec
from densityjax.training.evaluate import baseline_rows
from densityjax.training.mixture import NETWORK, Said, fit_yardsticks, mixed_spread, names_of
from densityjax.training.setup import load_folds, load_role

Tables = dict[str, TargetPredictions]


@dataclasses.dataclass(frozen=True)
class Materials:
    """What a mixture must know of materials beside their predictions, by material id.

    Attributes:
        place: {material id: row of what follows}.
        cells: what makes their targets intensive.
        systems: [n] chemical systems.
        exact: {target: [n]} of the targets with an identity.
    """

    place: dict[str, int]
    cells: Cells
    systems: np.ndarray
    exact: dict[str, np.ndarray]

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Rows of material ids."""
        return np.array([self.place[name] for name in ids], int)


    @classmethod
    def of(cls, records: Sequence[Records], specs: Sequence[TargetSpec]) -> "Materials":
        """Of records of different folds."""
        exact = [identities(part, specs) for part in records]
        ids = [str(name) for part in records for name in part.material_id]
        return cls(
            {name: row for row, name in enumerate(ids)},
            Cells(
                np.concatenate([part.num_electrons for part in records]),
                np.concatenate([part.volume for part in records]),
            ),
            np.concatenate([part.chemical_system for part in records]),
            {name: np.concatenate([part[name] for part in exact]) for name in exact[0]},
        )


def load_materials(
    configs: Sequence[ConfigDict], builder: Any, specs: Sequence[TargetSpec], split: str
) -> Materials:
    """The materials that any member has in a split, once each.

    Args:
        configs: of the members.
    """
    folds = {config.data.validation_fold: config for config in configs}
    chosen = list(folds.values()) if split == "validation" else [configs[0]]
    records = [
        load_role(own, builder, specs, split, cache_in_memory=False, features=False)
        for own in chosen
    ]
    return Materials.of(records, specs)


@dataclasses.dataclass(frozen=True)
class Whole:
    """The yardsticks of an ensemble, fitted once to all rows that any member trains on.

    Attributes:
        known: these records.
        descriptors: what completes features of other records.
        yardsticks: by name, those that are reported with their trees.
    """

    known: Records
    descriptors: Descriptors
    yardsticks: dict[str, Yardstick]


def fit_whole(config: ConfigDict, builder: Any, specs: Sequence[TargetSpec]) -> Whole:
    """Fits the yardsticks of an ensemble that are reported or mixed."""
    folds = tuple(config.data.train_folds)
    if config.ensemble.rotate:
        folds = (config.data.validation_fold, *folds)
    known = load_folds(
        config, builder, specs, folds, False, without_elements=tuple(config.data.held_out_elements)
    )
    names = names_of(config)
    descriptors, features = fit_descriptors(
        known.features, known.species, known.lattice, known.num_electrons, {},
        identify="density" in names,
    )
    known = dataclasses.replace(known, features=features)
    return Whole(known, descriptors, fit_yardsticks(config, known, specs, names))


def load_test(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec], whole: Whole
) -> Records:
    """The test fold with complete features."""
    records = load_role(config, builder, specs, "test", cache_in_memory=False)
    return records.described(whole.descriptors)


def mix_members(
    names: Sequence[str], runs: Sequence[RunDirectory], specs: Sequence[TargetSpec],
    materials: Mapping[str, Materials], test_columns: Columns, constraints: Sequence[str] = (),
) -> tuple[Stack, dict[str, list[TargetPredictions]], dict[str, list[TargetPredictions]]]:
    """Weights, what the mixture says, and what its learners say of the test fold.

    On the test fold the network's predictions are means over the members, those of the other
    learners come from fits to all rows that any member trains on.

    Args:
        names: of the learners, see `mixture.column_names`.
        runs: the members, finished.
        materials: of each split; without 'test' where no fold is kept back.
        test_columns: {learner: {target: [n]}} of all but the network, in the order of
          `materials["test"]`.
        constraints: config.model.constraints.

    Returns:
        (the mixture, {split: table of each target}, {learner: table of each target} of the test
        fold); validation materials are predicted by weights that their chemical system took no part
        in.
    """
    means = {name: average_learner(runs, name, specs, "validation") for name in names}
    first, known = means[names[0]], materials["validation"]
    rows = known.rows(first[specs[0].name].ids)
    cells = known.cells.rows(rows)
    columns = {
        name: {target: table.prediction for target, table in own.items()}
        for name, own in means.items()
    } | {IDENTITY: {name: exact[rows] for name, exact in known.exact.items()}}
    labels = {spec.name: first[spec.name].truth for spec in specs}
    stack = fit_stack(columns, labels, specs, cells, constraints)
    held_out = cross_fitted(columns, labels, specs, cells, known.systems[rows], constraints)
    tables = {"validation": _tables(stack, first, held_out, NETWORK in names)}
    if "test" not in materials:
        return stack, tables | {"test": tables["validation"]}, {}
    test, learners = _mixed_test(stack, names, runs, specs, materials["test"], test_columns)
    return stack, tables | {"test": test}, learners


def average_learner(
    runs: Sequence[RunDirectory], name: str, specs: Sequence[TargetSpec], split: str
) -> Tables:
    """{target: mean of a learner over the members that have the material}."""
    parts = [run.read_learner(name, specs, split) for run in runs]
    return {spec.name: average_tables([part[spec.name] for part in parts]) for spec in specs}


def _mixed_test(
    stack: Stack, names: Sequence[str], runs: Sequence[RunDirectory],
    specs: Sequence[TargetSpec], test: Materials, columns: Columns,
) -> tuple[list[TargetPredictions], dict[str, list[TargetPredictions]]]:
    first = average_learner(runs, names[0], specs, "test")
    rows = test.rows(first[specs[0].name].ids)
    found = {
        name: {target: values[rows] for target, values in columns[name].items()}
        for name in names if name != NETWORK
    } | {IDENTITY: {name: exact[rows] for name, exact in test.exact.items()}}
    if NETWORK in names:
        found[NETWORK] = {target: table.prediction for target, table in first.items()}
    values = stack(found, specs, test.cells.rows(rows))
    learners = {
        name: [
            dataclasses.replace(
                table, prediction=found[name][target],
                spread=table.spread if name == NETWORK else 0 * table.spread,
            )
            for target, table in first.items()
        ]
        for name in names
    }
    return _tables(stack, first, values, NETWORK in names), learners


def _tables(
    stack: Stack, tables: Tables, values: Mapping[str, np.ndarray], network: bool
) -> list[TargetPredictions]:
    """Tables with other predictions; only the network, where they are its own, has a spread."""
    spread = {name: table.spread if network else 0 * table.spread
              for name, table in tables.items()}
    mixed = mixed_spread(stack, spread)
    return [
        dataclasses.replace(table, prediction=values[name], spread=mixed[name])
        for name, table in tables.items()
    ]


def whole_baselines(
    specs: Sequence[TargetSpec], whole: Whole, test: Records, said: Said
) -> dict[str, dict[str, Metrics]]:
    """Accuracy on the test fold of baselines and yardsticks fitted to all rows of any member.

    That is more than any member is trained on, so that an ensemble is compared with the strongest
    yardstick that the same labels give.

    Args:
        said: by the yardsticks of the test fold.
    """
    known = baseline_rows(whole.known, specs)
    return baseline_metrics(known, baseline_rows(test, specs), specs) | {
        name: metrics_of(specs, test.labels, values) for name, values in said.means.items()
    }
