"""Decoders: what pretraining puts on the last scale of a trunk, and what is thrown away after it.

A decoder is light, so that what it needs has to be in the trunk. It reads nothing but the last
scale: a shortcut from finer scales would carry the visible voxels past the trunk.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from densityjax.model import layers
from densityjax.model.ops import conv3d as conv_op
from densityjax.model.ops.activation import silu


class Decoder(nn.Module):
    """A convolution and a sub-pixel layer (arXiv 1609.05158) for voxels, a small head for a view.

    Attributes:
        channels: numbers per voxel, K; 0: none.
        components: numbers per view, D; 0: none.
        stride: voxels of the view along an edge of a voxel of the last scale, s.
        width: hidden width of both.
        padding: of the view, 'circular' or 'zero'.
    """

    channels: int
    components: int
    stride: int
    width: int = 64
    padding: conv_op.Padding = "zero"
    implementation: conv_op.Implementation = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, scale: jax.Array, size: int) -> dict[str, jax.Array]:
        """Numbers of the voxels of a view and of the view as a whole.

        Args:
            scale: [B, g, g, g, W] the last scale of a trunk.
            size: voxels along an edge of the view, S, at most g times `stride`.

        Returns:
            {'voxels': [B, S, S, S, K], 'view': [B, D]}, float32, without those of width 0.
        """
        found = {}
        if self.channels:
            hidden = layers.Conv3D(
                self.width, 3, 1, 1, self.padding, self.implementation, self.dtype,
                name="voxels_hidden",
            )(scale)
            fine = layers.Dense(
                self.channels * self.stride**3, dtype=self.dtype, name="voxels_out"
            )(silu(hidden))
            found["voxels"] = _unfolded(fine, self.stride).astype(jnp.float32)[
                :, :size, :size, :size
            ]
        if self.components:
            pooled = nn.LayerNorm(name="view_norm")(layers.over_voxels(scale))  # [B, 2 W]
            found |= layers.heads(pooled, [("view", self.components)], self.width)
        return found


def _unfolded(values: jax.Array, stride: int) -> jax.Array:
    """[B, g, g, g, s^3 K] -> [B, g s, g s, g s, K]: each voxel becomes a cube of s^3."""
    batch, size = values.shape[:2]
    values = values.reshape(batch, size, size, size, stride, stride, stride, -1)
    values = values.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return values.reshape(batch, *(size * stride,) * 3, -1)
