"""msa3dcnn: multi-scale attention 3D CNN with a head per target (after arXiv 2510.13207)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from densityjax.model import layers
from densityjax.model.ops import conv3d as conv_op
from densityjax.model.ops.activation import silu


class MSA3DCNN(nn.Module):
    """Trunk shared by all targets, pooled over the field, and a small head per target.

    Attributes:
        targets: (name, width of its output) per target, in the order of the result.
        widths: channels per stage; the first stage has the stem's resolution, each later one half
          of the one before.
        blocks: residual blocks per stage.
        stem_stride: stride of the first convolution.
        dilations: of the parallel convolutions in every block and in the stem.
        attention: which of 'channel' and 'spatial' every block has.
        head_width: hidden width of each head.
        dropout: fraction of the embedding that training hides from the heads.
        padding: 'circular' for the fractional view, 'zero' or 'valid' for the Cartesian one.
        remat: keep of a residual block its input alone for the backward pass, which computes the
          rest again.
        derived: targets without a head, see densityjax.constraints.
        adapter: width of the bottleneck layer of every block, see `layers.Adapter`; 0: none.
    """

    targets: tuple[tuple[str, int], ...]
    widths: tuple[int, ...] = (24, 48)
    blocks: tuple[int, ...] = (2, 2)
    stem_stride: int = 2
    dilations: tuple[int, ...] = (1, 2)
    attention: tuple[str, ...] = ("channel", "spatial")
    head_width: int = 64
    dropout: float = 0.0
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Any = jnp.float32
    remat: bool = False
    derived: tuple[str, ...] = ()
    adapter: int = 0

    @property
    def total_stride(self) -> int:
        """Rolls of a periodic field by multiples of this many voxels change nothing."""
        return self.stem_stride * 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(
        self, field: jax.Array, features: jax.Array, keys: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Predicts standardised targets.

        Args:
            field: [B, G, G, G, C] standardised density.
            features: [B, F] standardised invariants of the cell, F may be 0.
            keys: [B] random keys of dropout, one per example so that the result does not depend
              on how examples are spread over devices; None in evaluation.

        Returns:
            ({target: [B, width]} standardised value or class logits, float32;
            [B, E] the embedding that the heads share).
        """
        residual_block = nn.remat(layers.ResidualBlock) if self.remat else layers.ResidualBlock
        options = dict(padding=self.padding, implementation=self.implementation, dtype=self.dtype)
        x = layers.MultiScaleConv3D(
            self.widths[0], self.dilations, self.stem_stride, name="stem", **options
        )(field)
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            if stage > 0:
                x = layers.Conv3D(width, 3, 2, name=f"down{stage}", **options)(silu(x))
            for block in range(blocks):
                x = residual_block(
                    width, self.dilations, self.attention, bottleneck=self.adapter,
                    name=f"stage{stage}_block{block}", **options,
                )(x)
        x = silu(x).astype(jnp.float32)  # [B, g, g, g, W]
        # For attribution.grad_cam; neither does anything where nobody asks.
        if not self.is_initializing():
            self.sow("intermediates", "last_scale", x)
            x = self.perturb("last_scale", x)
        pooled = layers.over_voxels(x)
        embedding = jnp.concatenate([nn.LayerNorm(name="pooled_norm")(pooled), features], axis=-1)
        visible = embedding
        if keys is not None and self.dropout > 0:
            keep = 1.0 - self.dropout
            draw = jax.vmap(lambda key: jax.random.bernoulli(key, keep, embedding.shape[1:]))
            visible = jnp.where(draw(keys), embedding / keep, 0.0)
        targets = [target for target in self.targets if target[0] not in self.derived]
        return layers.heads(visible, targets, self.head_width), embedding
