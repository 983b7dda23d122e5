"""autoencoder: a periodic encoder of densities to a latent grid, and the decoder it learns by.

After arXiv 2605.07227: convolutions of 16, 32, 32 and 16 channels with pooling between them, and
the same back, 112 thousand parameters with one field; 128^3 becomes 16^3 x 16. Theirs pads with
zeros; here the field is periodic, so that rolling a density by `total_stride` voxels rolls its
latent by one.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from densityjax.model import layers
from densityjax.model.ops import conv3d as conv_op
from densityjax.model.ops.activation import silu


class Autoencoder(nn.Module):
    """The encoder, which is the trunk, and heads on the pooled latent for targets, if there are.

    Attributes:
        targets: (name, width of its output) per target; () while it learns to reconstruct.
        widths: channels of the convolutions before each pooling, which halves the grid.
        latent: channels of the last scale, the latent.
        head_width: hidden width of each head.
        padding: 'circular' for the fractional view.
        derived: targets without a head, see densityjax.constraints.
    """

    targets: tuple[tuple[str, int], ...]
    widths: tuple[int, ...] = (16, 32, 32)
    latent: int = 16
    head_width: int = 64
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Any = jnp.float32
    derived: tuple[str, ...] = ()

    @property
    def total_stride(self) -> int:
        """Voxels of the field along an edge of a voxel of the latent."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(
        self, field: jax.Array, features: jax.Array, keys: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """As `msa3dcnn.MSA3DCNN`, without dropout; the latent is sown as 'last_scale'."""
        options = dict(
            padding=self.padding, implementation=self.implementation, dtype=self.dtype
        )
        x = field
        for stage, width in enumerate(self.widths):
            x = silu(layers.Conv3D(width, name=f"down{stage}", **options)(x))
            x = pooled(x)
        x = layers.Conv3D(self.latent, name="latent", **options)(x).astype(jnp.float32)
        if not self.is_initializing():
            self.sow("intermediates", "last_scale", x)  # [B, g, g, g, L]
            x = self.perturb("last_scale", x)
        whole = layers.over_voxels(x)
        embedding = jnp.concatenate([nn.LayerNorm(name="pooled_norm")(whole), features], axis=-1)
        targets = [target for target in self.targets if target[0] not in self.derived]
        return layers.heads(embedding, targets, self.head_width), embedding


class AutoencoderDecoder(nn.Module):
    """The encoder backwards: the latent -> numbers of every voxel; see `decoder.Decoder`.

    Attributes:
        channels: numbers per voxel, K.
        components: numbers per view; none can be had of it.
        stride: voxels of the view along an edge of a voxel of the latent, a power of 2.
        width: channels of the convolutions; half of it on the finest scale but one.
    """

    channels: int
    components: int
    stride: int
    width: int = 32
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, scale: jax.Array, size: int) -> dict[str, jax.Array]:
        """{'voxels': [B, S, S, S, K]} of a latent [B, g, g, g, L], float32; S is g times stride."""
        options = dict(
            padding=self.padding, implementation=self.implementation, dtype=self.dtype
        )
        stages = self.stride.bit_length() - 1
        x = scale
        for stage in range(stages):
            width = self.width if stage < stages - 1 else self.width // 2
            x = silu(layers.Conv3D(width, name=f"up{stage}", **options)(x))
            x = repeated(x)
        x = layers.Conv3D(self.channels, name="voxels_out", **options)(x).astype(jnp.float32)
        # It begins near the mean of training: from random voxels the first steps lead to a network
        # that says the mean and stays there.
        gain = self.param("gain", nn.initializers.constant(0.1), (self.channels,))
        return {"voxels": (x * gain)[:, :size, :size, :size]}


def pooled(x: jax.Array) -> jax.Array:
    """Means of cubes of 2^3 voxels: [B, X, Y, Z, C] -> [B, X / 2, Y / 2, Z / 2, C]."""
    batch, *sizes, channels = x.shape
    halves = [part for size in sizes for part in (size // 2, 2)]
    return x.reshape(batch, *halves, channels).mean(axis=(2, 4, 6))


def repeated(x: jax.Array) -> jax.Array:
    """Every voxel as a cube of 2^3: [B, X, Y, Z, C] -> [B, 2 X, 2 Y, 2 Z, C]."""
    batch, *sizes, channels = x.shape
    spread = x[:, :, None, :, None, :, None]
    shape = (batch, sizes[0], 2, sizes[1], 2, sizes[2], 2, channels)
    return jnp.broadcast_to(spread, shape).reshape(batch, *(2 * size for size in sizes), channels)
