"""3D convolution in the formulation that is fastest on each backend."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Padding = Literal["circular", "zero", "valid"]
Implementation = Literal["auto", "lax", "folded"]


def pad3d(x: jax.Array, width: tuple[int, int], padding: Padding) -> jax.Array:
    """Pads the three spatial axes of [B, X, Y, Z, C] by `width` (before, after)."""
    if padding == "valid" or width == (0, 0):
        return x
    mode = {"circular": "wrap", "zero": "constant"}[padding]
    return jnp.pad(x, ((0, 0), width, width, width, (0, 0)), mode=mode)


def conv3d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: Padding = "circular",
    implementation: Implementation = "auto",
) -> jax.Array:
    """Cross-correlates a field with a kernel; output voxel i is centred on input voxel i * stride.

    Args:
        x: [B, X, Y, Z, C_in].
        kernel: [k, k, k, C_in, C_out], k odd.
        stride: the same along the three axes.
        dilation: distance between kernel taps.
        padding: 'circular' for periodic fields, 'zero', or 'valid' (shrinks the field).
        implementation: 'lax' is XLA's 3D convolution, 'folded' sums k 2D convolutions with depth
          folded into the batch, 3 to 5 times faster on CPU; 'auto' picks by backend.

    Returns:
        [B, X', Y', Z', C_out]; X' = ceil(X / stride) unless 'valid'.

    Raises:
        ValueError: the field is smaller than the kernel, with 'valid' padding.
    """
    if implementation == "auto":
        implementation = "folded" if jax.default_backend() == "cpu" else "lax"
    if kernel.shape[0] == 1:
        return x[:, ::stride, ::stride, ::stride] @ kernel[0, 0, 0]
    reach = dilation * (kernel.shape[0] - 1) // 2
    if padding == "valid" and min(x.shape[1:4]) <= 2 * reach:
        raise ValueError(
            f"a field of {x.shape[1:4]} is too small for a {kernel.shape[0]}^3 kernel with "
            f"dilation {dilation} and 'valid' padding: enlarge the view, or choose padding 'zero'"
        )
    x = pad3d(x, (reach, reach), padding)
    convolve: Callable = {"lax": _lax, "folded": _folded}[implementation]
    return convolve(x, kernel, stride, dilation)


def _lax(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 3, "VALID", rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )  # fmt: skip


def _folded(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    """`y[:, i] = sum_j conv2d(x[:, i * stride + j * dilation], kernel[j])`."""
    batch, depth, *plane, channels = x.shape
    k = kernel.shape[0]
    out_depth = (depth - dilation * (k - 1) - 1) // stride + 1
    total = None
    for tap in range(k):
        start = tap * dilation
        slab = lax.slice_in_dim(x, start, start + (out_depth - 1) * stride + 1, stride, axis=1)
        y = lax.conv_general_dilated(
            slab.reshape(batch * out_depth, *plane, channels), kernel[tap], (stride,) * 2, "VALID",
            rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        total = y if total is None else total + y
    return total.reshape(batch, out_depth, *total.shape[1:])
