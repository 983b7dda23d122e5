"""The last step of every answer: predictions that obey config.model.constraints exactly.

Averages over views, states and members and mixtures of learners keep no formula and no zero. So
what is answered is projected once more after each: the moduli are raised above 0 and the derived
targets computed from them, the gap of what is said to be a metal is 0. A projection of what obeys
already changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from densityjax.constraints import (
    BULK,
    DERIVED,
    FLOOR,
    GAP,
    INSULATOR_CLASS,
    METAL,
    MODULI,
    POISSON,
    SHEAR,
    YOUNG,
    is_positive,
    poisson_ratio,
    youngs_modulus,
)
from densityjax.results.predictions_table import TargetPredictions
from densityjax.targets import TargetSpec

# The bounds of the Poisson ratio are open; rounding would reach them where K and G differ by 1e16.
_LOWEST, _HIGHEST = np.nextafter(-1.0, 0.0), np.nextafter(0.5, 0.0)


def project(
    values: Mapping[str, np.ndarray], specs: Sequence[TargetSpec], constraints: Sequence[str]
) -> dict[str, np.ndarray]:
    """Predictions that obey `densityjax.constraints`.

    Args:
        values: {target: [n] in its unit, or class probabilities [n, K]}; averaged, and of all
          targets that a constraint binds together.

    Returns:
        As `values`.
    """
    found, by_name = dict(values), {spec.name: spec for spec in specs}
    for spec in specs:
        if is_positive(spec, constraints):
            found[spec.name] = np.maximum(found[spec.name], FLOOR)
    if "gap" in constraints and GAP in found:
        winner = found[METAL].argmax(axis=1)  # [n]
        insulator = winner == by_name[METAL].classes.index(INSULATOR_CLASS)
        found[GAP] = np.where(insulator, np.maximum(found[GAP], FLOOR), 0.0)
    if "elastic" in constraints and any(name in found for name in DERIVED):
        bulk, shear = found[BULK], found[SHEAR]  # [n] GPa
        if YOUNG in found:
            found[YOUNG] = youngs_modulus(bulk, shear)
        if POISSON in found:
            found[POISSON] = np.clip(poisson_ratio(bulk, shear), _LOWEST, _HIGHEST)
    return found


def project_tables(
    tables: Sequence[TargetPredictions], constraints: Sequence[str]
) -> list[TargetPredictions]:
    """`project` of tables of predictions, of the same materials in the same order."""
    if not constraints:
        return list(tables)
    values = {table.spec.name: table.prediction for table in tables}
    values = project(values, [table.spec for table in tables], constraints)
    return [dataclasses.replace(table, prediction=values[table.spec.name]) for table in tables]


def mixture_weights(
    weights: Mapping[str, Mapping[str, float]], constraints: Sequence[str]
) -> dict[str, Mapping[str, float]]:
    """Weights of a mixture; those of derived targets are the means of those of the moduli.

    What is mixed are the moduli, so that these say by how much the network's spread over views
    reaches a derived target.

    Args:
        weights: {target: {learner: weight}}.
    """
    found = dict(weights)
    if "elastic" not in constraints:
        return found
    for name in DERIVED:
        if name in found:
            own = [weights[modulus] for modulus in MODULI]
            learners = dict.fromkeys(learner for part in own for learner in part)
            found[name] = {
                learner: sum(part.get(learner, 0.0) for part in own) / len(own)
                for learner in learners
            }
    return found
