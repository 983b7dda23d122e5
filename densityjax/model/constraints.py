"""Constraints on what the network puts out, so that training sees what will be answered."""

import jax
import jax.numpy as jnp

from densityjax.constraints import (
    FLOOR,
    GAP,
    INSULATOR_CLASS,
    METAL,
    MODULI,
    POISSON,
    YOUNG,
    is_positive,
    poisson_ratio,
    youngs_modulus,
)
from densityjax.targets import TargetSpec

Outputs = dict[str, jax.Array]
# The positive part bends over so many standard deviations of the labels.
_BEND = 0.25


def constrain(
    outputs: Outputs, specs: tuple[TargetSpec, ...], constraints: tuple[str, ...],
    label_mean: jax.Array, label_std: jax.Array,
) -> Outputs:
    """Outputs that obey `densityjax.constraints`.

    A standardised value is taken to the target's unit (of an extensive target, per electron or
    Å^3), changed there, and taken back. Targets that are trained as logarithms are positive as they
    are.

    Args:
        outputs: {target: [B, width]} standardised values or logits; derived targets may lack.
        specs: of all targets, auxiliary ones too.
        label_mean, label_std: [T] of the labels as trained.

    Returns:
        As `outputs`, all targets of `specs` in their order.
    """
    places = {spec.name: place for place, spec in enumerate(specs)}

    def free(name: str) -> jax.Array:  # [B, 1] as trained
        return outputs[name] * label_std[places[name]] + label_mean[places[name]]

    def standardised(name: str, values: jax.Array) -> jax.Array:
        return (values - label_mean[places[name]]) / label_std[places[name]]

    def in_unit(name: str) -> jax.Array:
        values = free(name)
        if specs[places[name]].transform == "log":
            return jnp.exp(values)
        return above(values, FLOOR, _BEND * label_std[places[name]])

    found = dict(outputs)
    for spec in specs:
        if is_positive(spec, constraints) and spec.transform != "log":
            found[spec.name] = standardised(spec.name, in_unit(spec.name))
    if "gap" in constraints and GAP in places:
        insulator = specs[places[METAL]].classes.index(INSULATOR_CLASS)
        share = jax.nn.softmax(outputs[METAL], axis=-1)[:, insulator, None]  # [B, 1]
        found[GAP] = standardised(GAP, share * in_unit(GAP))
    if "elastic" in constraints and (YOUNG in places or POISSON in places):
        bulk, shear = (in_unit(name) for name in MODULI)  # [B, 1] GPa
        for name, formula in ((YOUNG, youngs_modulus), (POISSON, poisson_ratio)):
            if name in places:
                values = formula(bulk, shear)
                if specs[places[name]].transform == "log":
                    values = jnp.log(jnp.maximum(values, FLOOR))
                found[name] = standardised(name, values)
    return {spec.name: found[spec.name] for spec in specs}


def above(values: jax.Array, floor: float, bend: jax.Array | float) -> jax.Array:
    """Values that are at least `floor`, by a softplus that leaves those far above it alone.

    Args:
        bend: width of the bend, in the unit of the values.
    """
    return floor + bend * jax.nn.softplus((values - floor) / bend)
