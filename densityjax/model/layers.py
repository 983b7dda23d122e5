"""Layers of the trunk: convolution, multi-scale convolution, attention, residual block."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from densityjax.model.ops import conv3d as conv_op
from densityjax.model.ops.activation import sigmoid, silu
from densityjax.model.ops.reduction import add_bias, scale, voxel_sum

Dtype = Any
ADAPTER = "adapter"  # of a block, the module that may learn while the rest of the trunk does not
# Uniform draws: XLA's CPU compiler takes seconds over the inverse error function of normal ones.
_dense_kernel = nn.initializers.lecun_uniform()
Dense = functools.partial(nn.Dense, kernel_init=_dense_kernel)


def over_voxels(x: jax.Array) -> jax.Array:
    """Mean and maximum over the voxels: [B, X, Y, Z, C] -> [B, 2 C]."""
    return jnp.concatenate([x.mean(axis=(1, 2, 3)), x.max(axis=(1, 2, 3))], axis=-1)


def heads(
    x: jax.Array, targets: Sequence[tuple[str, int]], hidden_width: int
) -> dict[str, jax.Array]:
    """A small head per target, of the module that calls: 'NAME_hidden' and 'NAME_out'.

    The hidden layers of all are one product, and so are the last ones of equal width: many small
    products take the compiler longer, and an accelerator starts each by itself.

    Args:
        x: [B, E] that all heads read.
        targets: (name, width of its output).

    Returns:
        {name: [B, width]}.
    """
    if not targets:
        return {}
    first = [_Weights(hidden_width, name=f"{name}_hidden")(x.shape[-1]) for name, _ in targets]
    kernel, bias = (jnp.concatenate(part, axis=-1) for part in zip(*first, strict=True))
    hidden = silu(x @ kernel + bias).reshape(len(x), len(targets), hidden_width)  # [B, T, H]
    last = [_Weights(width, name=f"{name}_out")(hidden_width) for name, width in targets]
    outputs = {}
    for width in sorted({width for _, width in targets}):
        places = [place for place, (_, own) in enumerate(targets) if own == width]
        kernel, bias = (jnp.stack([last[p][part] for p in places]) for part in range(2))
        read = hidden if len(places) == len(targets) else hidden[:, np.array(places)]
        said = jnp.einsum("bth,thw->btw", read, kernel) + bias
        outputs |= {targets[p][0]: said[:, at] for at, p in enumerate(places)}
    return {name: outputs[name] for name, _ in targets}


class _Weights(nn.Module):
    """Kernel [inputs, features] and bias [features] of a dense layer, initialised as `Dense`."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", _dense_kernel, (inputs, self.features))
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,))


class Conv3D(nn.Module):
    """3D convolution with the padding of the view. [B, X, Y, Z, C] -> [B, X', Y', Z', features]."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size,) * 3 + (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = conv_op.conv3d(
            x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride,
            dilation=self.dilation, padding=self.padding, implementation=self.implementation,
        )
        return add_bias(y, bias.astype(self.dtype))


class MultiScaleConv3D(nn.Module):
    """Parallel convolutions with one kernel and several dilations, concatenated along channels.

    A scale is a bond length seen by the kernel: with dilation d a 3^3 kernel spans 2d + 1 voxels.
    """

    features: int
    dilations: tuple[int, ...] = (1, 2)
    stride: int = 1
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        share, rest = divmod(self.features, len(self.dilations))

        def centre(dilation: int) -> jax.Array:
            # Without padding a branch loses `dilation` voxels a side: all lose the widest's.
            margin = max(self.dilations) - dilation if self.padding == "valid" else 0
            inner = slice(margin, -margin or None)
            return x[:, inner, inner, inner]

        branches = [
            Conv3D(
                share + (i < rest), 3, self.stride, dilation, self.padding, self.implementation,
                self.dtype, name=f"dilation{dilation}",
            )(centre(dilation))
            for i, dilation in enumerate(self.dilations)
        ]
        return jnp.concatenate(branches, axis=-1)


class ChannelAttention(nn.Module):
    """Gate per channel from the field's mean (squeeze and excitation, arXiv 1709.01507)."""

    reduction: int = 4
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        pooled = voxel_sum(x) / math.prod(x.shape[1:4])  # [B, C]
        hidden = silu(Dense(max(channels // self.reduction, 4), dtype=self.dtype)(pooled))
        gate = sigmoid(Dense(channels, dtype=self.dtype)(hidden))
        return scale(x, gate[:, None, None, None, :])


class SpatialAttention(nn.Module):
    """Gate per voxel from the mean and maximum over channels (CBAM, arXiv 1807.06521)."""

    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        maps = jnp.stack([x.mean(-1), x.max(-1)], axis=-1)  # [B, X, Y, Z, 2]
        # The gate keeps the field's size, so a 'valid' trunk pads it with zeros here.
        padding = "circular" if self.padding == "circular" else "zero"
        gate = Conv3D(1, 3, 1, 1, padding, self.implementation, self.dtype)(maps)
        return x * sigmoid(gate)


class Adapter(nn.Module):
    """x + up(silu(down(x))), a bottleneck that begins as the identity (arXiv 1902.00751).

    Attributes:
        width: channels of the bottleneck.
    """

    width: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = silu(Dense(self.width, dtype=self.dtype, name="down")(x))  # [B, X, Y, Z, width]
        up = nn.Dense(
            x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros, name="up"
        )
        return x + up(y)


class ResidualBlock(nn.Module):
    """x + gain * attention(conv(multi-scale conv(x))), activations before the convolutions.

    There is no normalisation layer: batch statistics would tie materials together, and a norm over
    the field would hide the density's scale. The gain starts small instead (arXiv 2003.04887).
    With `bottleneck` channels (0: none) the sum goes through an `Adapter`.
    """

    features: int
    dilations: tuple[int, ...] = (1, 2)
    attention: tuple[str, ...] = ("channel", "spatial")
    padding: conv_op.Padding = "circular"
    implementation: conv_op.Implementation = "auto"
    dtype: Dtype = jnp.float32
    bottleneck: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = MultiScaleConv3D(
            self.features, self.dilations, 1, self.padding, self.implementation, self.dtype
        )(silu(x))
        y = Conv3D(
            self.features, 1, 1, 1, self.padding, self.implementation, self.dtype, name="mix"
        )(silu(y))
        if "channel" in self.attention:
            y = ChannelAttention(dtype=self.dtype)(y)
        if "spatial" in self.attention:
            y = SpatialAttention(self.padding, self.implementation, self.dtype)(y)
        if self.padding == "valid":
            lost = (x.shape[1] - y.shape[1]) // 2
            x = x[:, lost:-lost, lost:-lost, lost:-lost]
        gain = self.param("gain", nn.initializers.constant(0.2), (self.features,))
        x = x + scale(y, gain.astype(self.dtype))
        return Adapter(self.bottleneck, self.dtype, name=ADAPTER)(x) if self.bottleneck else x
