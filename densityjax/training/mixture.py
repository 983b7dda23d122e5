"""The learners of a run beside its network, and the mixture of all that answers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from densityjax.data.records import Records
from densityjax.results.gaussian_process import KINDS
from densityjax.results.identities import identities
from densityjax.results.predictions import Predictions
from densityjax.results.stack import IDENTITY, Cells, Columns, Stack, cross_fitted, fit_stack
from densityjax.results.yardsticks import YARDSTICKS, Yardstick, fit_all
from densityjax.targets import TargetSpec

NETWORK = "network"


def names_of(config: ConfigDict) -> tuple[str, ...]:
    """The yardsticks that a run fits: those to report and those to mix."""
    asked = {*config.yardsticks, *config.stack.learners}
    return tuple(name for name in YARDSTICKS if name in asked)


def fit_yardsticks(
    config: ConfigDict, records: Records, specs: Sequence[TargetSpec], names: Sequence[str]
) -> dict[str, Yardstick]:
    """Yardsticks by name, fitted to training records with complete features."""
    return fit_all(
        records.features, records.labels, specs, records.num_electrons, records.volume,
        config.seed, names, trees=tuple(config.yardsticks),
    )


def column_names(config: ConfigDict) -> tuple[str, ...]:
    """The learners that config.stack mixes: the network and the processes of the yardsticks."""
    learners = config.stack.learners
    own = (NETWORK,) if NETWORK in learners else ()
    names = (name for name in YARDSTICKS if name in learners)
    return own + tuple(_column(name, kind) for name in names for kind in KINDS)


def _column(yardstick: str, kind: str) -> str:
    return f"{yardstick}_{kind}"


def mean_name(yardstick: str) -> str:
    """Name of the mean of a yardstick's learners among the tables of a run."""
    return f"{yardstick}_mean"


@dataclasses.dataclass(frozen=True)
class Said:
    """What network and yardsticks say of some materials.

    Attributes:
        means: {yardstick: {target: mean of its learners}}.
        columns: {learner: {target: values}} of all that may be mixed, see `stack`.
    """

    means: dict[str, dict[str, np.ndarray]]
    columns: dict[str, dict[str, np.ndarray]]


def ask(
    yardsticks: Mapping[str, Yardstick], learners: Sequence[str], network: Predictions,
    records: Records, specs: Sequence[TargetSpec],
) -> Said:
    """Predictions of records by every learner.

    Args:
        learners: config.stack.learners.
        network: its predictions of the records.
    """
    said = ask_yardsticks(yardsticks, learners, records)
    own = {NETWORK: network.values} if NETWORK in learners else {}
    columns = own | said.columns
    if columns:
        columns[IDENTITY] = identities(records, specs)
    return Said(said.means, columns)


def ask_yardsticks(
    yardsticks: Mapping[str, Yardstick], learners: Sequence[str], records: Records
) -> Said:
    """Predictions of complete records without the network and the identities, see `ask`."""
    means: dict[str, dict[str, np.ndarray]] = {}
    columns: dict[str, dict[str, np.ndarray]] = {}
    for name, yardstick in yardsticks.items():
        found = yardstick.predict(records.features, records.num_electrons, records.volume)
        if "mean" in found:
            means[name] = found["mean"]
        if name in learners:
            columns |= {_column(name, kind): found[kind] for kind in KINDS}
    return Said(means, columns)


def cells_of(records: Records) -> Cells:
    """What makes the targets of records intensive."""
    return Cells(records.num_electrons, records.volume)


def mix(
    columns: Mapping[str, Columns], network: Mapping[str, Predictions],
    records: Mapping[str, Records], specs: Sequence[TargetSpec], constraints: Sequence[str] = (),
) -> tuple[Stack, dict[str, Predictions]]:
    """Fits the weights on the validation fold, which no learner was fitted on.

    Args:
        columns: {'validation', 'test': what the learners say}.
        network, records: likewise.
        constraints: config.model.constraints.

    Returns:
        (the mixture, {'validation', 'test': its predictions}); a validation material is predicted
        by weights that its chemical system took no part in.
    """
    known = records["validation"]
    held_out = columns["validation"], known.labels, specs, cells_of(known)
    stack = fit_stack(*held_out, constraints)
    answers = {
        split: answer(stack, columns[split], network[split], own, specs)
        for split, own in records.items() if split in columns
    }
    values = cross_fitted(*held_out, known.chemical_system, constraints)
    return stack, answers | {
        "validation": dataclasses.replace(answers["validation"], values=values)
    }


def answer(
    stack: Stack, columns: Columns, network: Predictions, records: Records,
    specs: Sequence[TargetSpec],
) -> Predictions:
    """What a mixture predicts of records, in place of the network alone.

    Args:
        columns: what its learners say, see `ask`.
    """
    return dataclasses.replace(
        network, values=stack(columns, specs, cells_of(records)),
        spread=mixed_spread(stack, network.spread),
    )


def mixed_spread(stack: Stack, spread: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Spread over views of a mixture, in which only the network sees views.

    Args:
        spread: {target: [n]} of the network.
    """
    return {
        name: stack.weights[name].get(NETWORK, 0.0) * values for name, values in spread.items()
    }


def facts_of(yardsticks: Mapping[str, Yardstick]) -> dict[str, Any]:
    """Rows and settings of every yardstick, JSON-safe."""
    return {name: yardstick.facts for name, yardstick in yardsticks.items()}
