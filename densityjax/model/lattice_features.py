"""Invariants of the cell that reach the model beside the pooled trunk."""

from typing import Literal

import jax
import jax.numpy as jnp

LatticeFeatures = Literal["none", "volume_per_electron", "metric"]
NUM_FEATURES = {"none": 0, "volume_per_electron": 1, "metric": 4}


def lattice_features(
    lattice: jax.Array, num_electrons: jax.Array, kind: LatticeFeatures
) -> jax.Array:
    """Features that no rotation, mirror image or relabelling of the axes changes.

    'volume_per_electron' is the same for a supercell, so intensive predictions stay put.
    'metric' adds the three invariants of the metric tensor G = L L^T as lengths:
    sqrt(I1 / 3), (I2 / 3)^(1/4) and I3^(1/6) = V^(1/3), with I1 = tr G, I2 = (I1^2 - tr G^2) / 2
    and I3 = det G; a supercell changes them, and so does another choice of primitive cell.

    Args:
        lattice: [B, 3, 3] Å, rows are the cell vectors.
        num_electrons: [B] valence electrons per cell.

    Returns:
        [B, F] natural logarithms of Å^3 per electron and Å, F = NUM_FEATURES[kind].
    """
    if kind == "none":
        return jnp.zeros((lattice.shape[0], 0))
    volume = jnp.abs(jnp.linalg.det(lattice))  # [B] Å^3
    log_volume_per_electron = jnp.log(volume / num_electrons)  # [B]
    if kind == "volume_per_electron":
        return log_volume_per_electron[:, None]
    metric = jnp.einsum("bij,bkj->bik", lattice, lattice)  # [B, 3, 3] Å^2
    i1 = jnp.trace(metric, axis1=1, axis2=2)  # [B] Å^2
    i2 = (i1**2 - jnp.einsum("bij,bji->b", metric, metric)) / 2  # [B] Å^4
    lengths = (jnp.log(i1 / 3) / 2, jnp.log(i2 / 3) / 4, jnp.log(volume) / 3)
    return jnp.stack((log_volume_per_electron, *lengths), axis=1)
