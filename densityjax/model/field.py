"""The transform of the density before it enters the trunk."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

FieldTransform = Literal["linear", "times_volume", "log", "log_and_linear"]


def num_fields(channels: int, transform: FieldTransform) -> int:
    """Channels that enter the trunk, for `channels` of the record."""
    return channels + (transform == "log_and_linear")


def transform_field(
    field: jax.Array, transform: FieldTransform, log_clamp: float, volume: jax.Array | float
) -> jax.Array:
    """Charge as it is, its logarithm, or both; the magnetisation stays linear, its sign matters.

    The logarithm spreads the low densities between atoms, which decide stiffness, over the range
    that nuclei take linearly. Densities below the clamp (the rings of a truncated Fourier series
    are slightly negative) are raised to it: log(max(rho, clamp)). 'times_volume' is rho * V, what
    VASP stores, for charge and magnetisation: its mean over the cell is the number of electrons.

    Args:
        field: [..., C] e/Å^3 (and μB/Å^3).
        log_clamp: e/Å^3.
        volume: Å^3 of the cell, broadcasting against `field`.

    Returns:
        [..., C], or [..., C + 1] with both, the logarithm first.
    """
    if transform == "linear":
        return field
    if transform == "times_volume":
        return field * volume
    charge = jnp.log(jnp.maximum(field[..., :1], log_clamp))  # [..., 1] ln(e/Å^3)
    rest = field if transform == "log_and_linear" else field[..., 1:]
    return jnp.concatenate([charge, rest], axis=-1)


def standardised_view(
    field: jax.Array, lattice: jax.Array, transform: FieldTransform, log_clamp: float,
    statistics: Mapping[str, Any],
) -> jax.Array:
    """Views as a network takes them: transformed, in standard deviations of the training rows.

    Args:
        field: [B, S, S, S, C] e/Å^3.
        lattice: [B, 3, 3] Å.
        statistics: with field_mean and field_std, [C'] of the transformed field.
    """
    volume = jnp.abs(jnp.linalg.det(lattice))  # [B] Å^3
    return standardised_field(field, volume, transform, log_clamp, statistics)


def standardised_field(
    field: jax.Array, volume: jax.Array, transform: FieldTransform, log_clamp: float,
    statistics: Mapping[str, Any],
) -> jax.Array:
    """As `standardised_view`, of fields in cells of so many Å^3, [B]."""
    field = transform_field(field, transform, log_clamp, volume[:, None, None, None, None])
    return (field - statistics["field_mean"]) / statistics["field_std"]
