"""The mixture of an ensemble: weights from out-of-fold predictions, one answer per material.

A learner of the ensemble is the mean of that learner over the members. The weights of the learners
are fitted to the means of the members that validated on a material, none of which trained on it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.features.descriptors import fit_descriptors
from densityjax.results.averages import average_tables
from densityjax.results.baselines import baseline_metrics
from densityjax.results.identities import identities
from densityjax.results.metrics import Metrics
from densityjax.results.predictions_table import TargetPredictions
from densityjax.results.run_directory import SPLITS, RunDirectory
from densityjax.results.stack import IDENTITY, Cells, Stack, cross_fitted, fit_stack
from densityjax.targets import TargetSpec
from densityjax.training.evaluate import baseline_rows
from densityjax.training.mixture import NETWORK, fit_yardsticks, mixed_spread
from densityjax.training.setup import describe, load_folds, load_role

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


def load_materials(
    configs: Sequence[ConfigDict], builder: Any, specs: Sequence[TargetSpec], split: str
) -> Materials:
    """The materials that any member has in a split, once each.

    Args:
        configs: of the members.
    """
    folds = {config.data.validation_fold: config for config in configs}
    chosen = list(folds.values()) if split == "validation" else [configs[0]]
    records = [load_role(own, builder, specs, split, cache_in_memory=False) for own in chosen]
    exact = [identities(part, specs) for part in records]
    ids = [str(name) for part in records for name in part.material_id]
    return Materials(
        {name: row for row, name in enumerate(ids)},
        Cells(
            np.concatenate([part.num_electrons for part in records]),
            np.concatenate([part.volume for part in records]),
        ),
        np.concatenate([part.chemical_system for part in records]),
        {name: np.concatenate([part[name] for part in exact]) for name in exact[0]},
    )


def mix_members(
    names: Sequence[str], runs: Sequence[RunDirectory], specs: Sequence[TargetSpec],
    materials: Mapping[str, Materials],
) -> tuple[Stack, dict[str, list[TargetPredictions]]]:
    """Weights, and what the mixture says.

    Args:
        names: of the learners, see `mixture.column_names`.
        runs: the members, finished.
        materials: of each split.

    Returns:
        (the mixture, {split: table of each target}); validation materials are predicted by weights
        that their chemical system took no part in.
    """
    said = {split: [_read(run, names, specs, split) for run in runs] for split in SPLITS}
    means = {
        name: {s.name: average_tables([own[name][s.name] for own in said["validation"]])
               for s in specs}
        for name in names
    }
    known = materials["validation"]
    first = means[names[0]]
    rows = known.rows(first[specs[0].name].ids)
    columns, cells = _columns(means, known, rows), known.cells.rows(rows)
    labels = {spec.name: first[spec.name].truth for spec in specs}
    stack = fit_stack(columns, labels, specs, cells)
    held_out = cross_fitted(columns, labels, specs, cells, known.systems[rows])
    tables = {split: _mixed(stack, said[split], specs, materials[split]) for split in SPLITS}
    tables["validation"] = [
        dataclasses.replace(table, prediction=held_out[table.spec.name])
        for table in tables["validation"]
    ]
    return stack, tables


def _read(
    run: RunDirectory, names: Sequence[str], specs: Sequence[TargetSpec], split: str
) -> dict[str, Tables]:
    """{learner: {target: table}} of a member."""
    return {name: run.read_learner(name, specs, split) for name in names}


def _columns(learners: Mapping[str, Tables], materials: Materials, rows: np.ndarray) -> dict:
    """Tables of the same materials as a mixture takes them, with the identities."""
    columns = {
        name: {target: table.prediction for target, table in own.items()}
        for name, own in learners.items()
    }
    return columns | {IDENTITY: {name: exact[rows] for name, exact in materials.exact.items()}}


def _mixed(
    stack: Stack, members: Sequence[dict[str, Tables]], specs: Sequence[TargetSpec],
    materials: Materials,
) -> list[TargetPredictions]:
    """Average over the members of what their learners give, with the spread between them."""
    found: dict[str, list[TargetPredictions]] = {spec.name: [] for spec in specs}
    for learners in members:
        any_learner = next(iter(learners.values()))
        rows = materials.rows(any_learner[specs[0].name].ids)
        values = stack(_columns(learners, materials, rows), specs, materials.cells.rows(rows))
        spread = mixed_spread(
            stack, {name: table.spread for name, table in learners.get(NETWORK, {}).items()}
        )
        for name, table in any_learner.items():
            own = spread.get(name, np.zeros(len(rows)))
            found[name].append(dataclasses.replace(table, prediction=values[name], spread=own))
    return [average_tables(found[spec.name]) for spec in specs]


def development_baselines(
    config: ConfigDict, builder: Any, specs: Sequence[TargetSpec]
) -> dict[str, dict[str, Metrics]]:
    """Accuracy on the test fold of baselines and yardsticks fitted to all rows of any member.

    That is more than any member is trained on, so that an ensemble is compared with the strongest
    yardstick that the same labels give.
    """
    folds = (config.data.validation_fold, *config.data.train_folds)
    known = load_folds(
        config, builder, specs, folds, False, without_elements=tuple(config.data.held_out_elements)
    )
    test = load_role(config, builder, specs, "test", cache_in_memory=False)
    descriptors, features = fit_descriptors(
        known.features, known.species, known.lattice, known.num_electrons, {},
        identify="density" in config.yardsticks,
    )
    test = describe(test, descriptors)
    found = baseline_metrics(baseline_rows(known, specs), baseline_rows(test, specs), specs)
    known = dataclasses.replace(known, features=features)
    for name, yardstick in fit_yardsticks(config, known, specs, config.yardsticks).items():
        found[name] = yardstick.metrics(
            test.features, test.labels, test.num_electrons, test.volume
        )
    return found
