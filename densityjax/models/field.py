"""The transform of the density before it enters the trunk."""

from typing import Literal

import jax
import jax.numpy as jnp

FieldTransform = Literal["linear", "log"]


def transform_field(field: jax.Array, transform: FieldTransform, log_clamp: float) -> jax.Array:
    """Charge as it is, or its logarithm; the magnetisation stays linear, its sign matters.

    The logarithm spreads the low densities between atoms, which decide stiffness, over the range
    that nuclei take linearly. Densities below the clamp (the rings of a truncated Fourier series
    are slightly negative) are raised to it: log(max(rho, clamp)).

    Args:
        field: [..., C] e/Å^3 (and μB/Å^3).
        log_clamp: e/Å^3.

    Returns:
        [..., C].
    """
    if transform == "linear":
        return field
    charge = jnp.log(jnp.maximum(field[..., :1], log_clamp))  # [..., 1] ln(e/Å^3)
    return jnp.concatenate([charge, field[..., 1:]], axis=-1)
