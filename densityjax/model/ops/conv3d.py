"""3D convolution in the formulation that is fastest on each backend."""

import functools
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from densityjax.model.ops import onednn
from densityjax.runtime.errors import ConfigError

Padding = Literal["circular", "zero", "valid"]
Implementation = Literal["auto", "lax", "folded", "onednn"]


def pad3d(x: jax.Array, width: tuple[int, int], padding: Padding) -> jax.Array:
    """Pads the three spatial axes of [B, X, Y, Z, C] by `width` (before, after)."""
    if padding == "valid" or width == (0, 0):
        return x
    mode = {"circular": "wrap", "zero": "constant"}[padding]
    return jnp.pad(x, ((0, 0), width, width, width, (0, 0)), mode=mode)


def choose(implementation: Implementation, dtype: jnp.dtype) -> Implementation:
    """What 'auto' means here. docs/performance.md holds the measurements.

    CPU, 12^3 x 32 channels, forward and backward of one 3^3 layer: 'lax' 130 ms, 'folded' 33,
    'onednn' 16. On GPU and TPU 'lax' is cuDNN's or the MXU's own convolution; no GPU has been at
    hand to try the others.
    """
    if implementation == "onednn" and not (onednn.available() and dtype == jnp.float32):
        raise ConfigError(
            "config.model.implementation='onednn' needs float32 on an x86-64 CPU and jaxlib "
            f"{' or '.join(onednn.TESTED_JAXLIB)}: choose 'auto'"
        )
    if implementation != "auto":
        return implementation
    if jax.default_backend() != "cpu":
        return "lax"
    return "onednn" if onednn.available() and dtype == jnp.float32 else "folded"


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
          folded into the batch, 'onednn' calls oneDNN and forms the kernel's gradient as one 2D
          convolution; 'auto' picks, see `choose`.

    Returns:
        [B, X', Y', Z', C_out]; X' = ceil(X / stride) unless 'valid'.

    Raises:
        ConfigError: the field is smaller than the kernel, with 'valid' padding; or 'onednn' is
          asked for where it cannot run.
    """
    implementation = choose(implementation, jnp.result_type(x, kernel))
    if kernel.shape[0] == 1:
        return pointwise(x[:, ::stride, ::stride, ::stride], kernel[0, 0, 0])
    reach = dilation * (kernel.shape[0] - 1) // 2
    if padding == "valid" and min(x.shape[1:4]) <= 2 * reach:
        raise ConfigError(
            f"a field of {x.shape[1:4]} is too small for a {kernel.shape[0]}^3 kernel with "
            f"dilation {dilation} and 'valid' padding: enlarge config.view.size, or choose "
            "config.view.padding='zero'"
        )
    if implementation == "onednn":
        return _onednn(x, kernel, stride, dilation, padding)
    convolve = {"lax": _lax, "folded": _folded}[implementation]
    return convolve(pad3d(x, (reach, reach), padding), kernel, stride, dilation)


def _lax(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 3, "VALID", rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def _plane(x: jax.Array, kernel: jax.Array, stride: int, dilation: int, reach: int) -> jax.Array:
    """2D convolution of [B, D, H, W, C] with depth folded into the batch, zeros around a plane."""
    y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]), kernel, (stride,) * 2, [(reach, reach)] * 2,
        rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _folded(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    """`y[:, i] = sum_j conv2d(x[:, i * stride + j * dilation], kernel[j])`."""
    depth, k = x.shape[1], kernel.shape[0]
    out_depth = (depth - dilation * (k - 1) - 1) // stride + 1
    total = None
    for tap in range(k):
        start = tap * dilation
        slab = lax.slice_in_dim(x, start, start + (out_depth - 1) * stride + 1, stride, axis=1)
        y = _plane(slab, kernel[tap], stride, dilation, 0)
        total = y if total is None else total + y
    return total


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _onednn(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: int, padding: Padding
) -> jax.Array:
    reach = dilation * (kernel.shape[0] - 1) // 2
    zeros = reach if padding == "zero" else 0
    if padding == "circular":
        x = pad3d(x, (reach, reach), padding)
    return onednn.convolution(x, kernel, stride=stride, dilation=dilation, padding=zeros)


def _onednn_forward(x, kernel, stride, dilation, padding):
    return _onednn(x, kernel, stride, dilation, padding), (x, kernel)


def _onednn_backward(stride, dilation, padding, residuals, cotangent):
    x, kernel = residuals
    if stride == 1:
        return (
            _input_gradient(cotangent, kernel, dilation, padding),
            _kernel_gradient(x, cotangent, kernel.shape[0], dilation, padding),
        )
    periodic = padding == "circular"
    if periodic and any(size % stride for size in x.shape[1:4]):
        to_x = _folded_input_gradient(x, kernel, stride, dilation, padding, cotangent)
    else:
        to_x = _strided_input_gradient(cotangent, kernel, x.shape[1:4], stride, dilation, padding)
    if kernel[..., 0].size <= _FEW_WEIGHTS:
        to_kernel = _patch_kernel_gradient(x, cotangent, kernel.shape, stride, dilation, padding)
    else:
        to_kernel = _strided_kernel_gradient(
            x, cotangent, kernel.shape[0], stride, dilation, padding
        )
    return to_x, to_kernel


_onednn.defvjp(_onednn_forward, _onednn_backward)


def _input_gradient(
    cotangent: jax.Array, kernel: jax.Array, dilation: int, padding: Padding
) -> jax.Array:
    """The convolution with the mirrored, transposed kernel; periodic where the field is."""
    mirrored = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    if padding != "valid":
        return _onednn(cotangent, mirrored, 1, dilation, padding)
    full = dilation * (kernel.shape[0] - 1)
    return onednn.convolution(cotangent, mirrored, stride=1, dilation=dilation, padding=full)


def _kernel_gradient(
    x: jax.Array, cotangent: jax.Array, k: int, dilation: int, padding: Padding
) -> jax.Array:
    """`dkernel[j] = sum_z conv2d_gradient(x[:, z], cotangent[:, z + reach - j * dilation])`.

    The k shifted cotangents stand side by side in the channels: one 2D convolution gradient over
    k * C_out channels fills the vector units, where C_out alone (16 in the default model) would
    leave them waiting. Half the time of k separate ones.
    """
    depth, reach = x.shape[1], dilation * (k - 1) // 2
    margin = {"circular": reach, "zero": reach, "valid": 2 * reach}[padding]
    mode = "wrap" if padding == "circular" else "constant"
    widths = ((0, 0), (margin, margin), (0, 0), (0, 0), (0, 0))
    extended = jnp.pad(cotangent, widths, mode=mode)
    shifted = [
        lax.slice_in_dim(extended, start, start + depth, axis=1)
        for start in ((k - 1 - tap) * dilation for tap in range(k))
    ]
    stacked = jnp.concatenate(shifted, axis=-1)  # [B, D, H, W, k * C_out]
    if padding == "circular":
        x = jnp.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach), (0, 0)), mode="wrap")
    zeros = reach if padding == "zero" else 0
    gradient = _plane_kernel_gradient(x, stacked, k, 1, dilation, zeros)
    return gradient.reshape(k, k, x.shape[-1], k, -1).transpose(3, 0, 1, 2, 4)


def _plane_kernel_gradient(
    x: jax.Array, cotangent: jax.Array, k: int, stride: int, dilation: int, reach: int
) -> jax.Array:
    """Kernel gradient of `_plane`: a convolution with batch and channels in exchanged roles.

    Autodiff writes the same convolution with exchanged dimension numbers. XLA's CPU compiler brings
    those into the order of its fast routine outside of loops only: inside `lax.scan`, over
    micro-batches, the layer took 100 times longer.

    Args:
        x: [B, D, H, W, C_in].
        cotangent: [B, D, h, w, C_out].
        reach: zeros around a plane.

    Returns:
        [k, k, C_in, C_out].
    """
    planes = x.reshape(-1, *x.shape[2:]).transpose(3, 1, 2, 0)  # [C_in, H, W, B * D]
    taps = cotangent.reshape(-1, *cotangent.shape[2:]).transpose(1, 2, 0, 3)  # [h, w, B * D, C_out]
    after = [
        dilation * (k - 1) + stride * (small - 1) + 1 - large - reach
        for large, small in zip(planes.shape[1:3], taps.shape[:2])
    ]
    gradient = lax.conv_general_dilated(
        planes, taps, (dilation,) * 2, [(reach, width) for width in after],
        rhs_dilation=(stride,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return gradient.transpose(1, 2, 0, 3)


def _folded_input_gradient(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: int, padding: Padding,
    cotangent: jax.Array,
) -> jax.Array:
    """Of the folded formulation, for periodic fields that the stride does not divide."""
    reach = dilation * (kernel.shape[0] - 1) // 2
    _, pull = jax.vjp(
        lambda x: _folded(pad3d(x, (reach, reach), padding), kernel, stride, dilation), x
    )
    return pull(cotangent)[0]


def _strided_input_gradient(
    cotangent: jax.Array, kernel: jax.Array, sizes: tuple[int, ...], stride: int, dilation: int,
    padding: Padding,
) -> jax.Array:
    """One dense convolution per residue of the input index, interleaved.

    Input voxel `stride * m + r` meets tap t of output `m + (r + reach - t * dilation) / stride`
    where that is whole: each residue r has its own taps, and no multiplication with inserted
    zeros is left.
    """
    k, batch = kernel.shape[0], cotangent.shape[0]
    reach = 0 if padding == "valid" else dilation * (k - 1) // 2
    counts = [-(-size // stride) for size in sizes]
    margin = dilation * k + max(counts) - min(cotangent.shape[1:4])  # more than any offset
    mode = "wrap" if padding == "circular" else "constant"
    wide = jnp.pad(cotangent, ((0, 0), *(((margin, margin),) * 3), (0, 0)), mode=mode)
    common = math.gcd(dilation, stride)

    def axis_taps(residue: int) -> tuple[slice, int] | None:
        """Taps of one axis in the order of rising offsets, and the first offset."""
        taps = [t for t in range(k) if (residue + reach - t * dilation) % stride == 0]
        if not taps:
            return None
        offset = (residue + reach - taps[-1] * dilation) // stride
        return slice(taps[0], taps[-1] + 1, stride // common), offset

    phases = []
    for residues in itertools.product(range(stride), repeat=3):
        axes = [axis_taps(residue) for residue in residues]
        if None in axes:  # even dilations leave every other voxel out
            phases.append(jnp.zeros((batch, *counts, kernel.shape[3]), cotangent.dtype))
            continue
        part = jnp.flip(kernel[tuple(taps for taps, _ in axes)], (0, 1, 2)).swapaxes(3, 4)
        spans = [
            slice(margin + offset, margin + offset + count + dilation // common * (taps - 1))
            for (_, offset), count, taps in zip(axes, counts, part.shape)
        ]
        window = wide[(slice(None), *spans)]
        phases.append(
            onednn.convolution(window, part, stride=1, dilation=dilation // common, padding=0)
        )
    grid = jnp.stack(phases).reshape(*(stride,) * 3, *phases[0].shape)
    grid = grid.transpose(3, 4, 0, 5, 1, 6, 2, 7)  # [B, X / s, s, Y / s, s, Z / s, s, C]
    grid = grid.reshape(batch, *(stride * count for count in counts), -1)
    return grid[:, : sizes[0], : sizes[1], : sizes[2]]


def _strided_kernel_gradient(
    x: jax.Array, cotangent: jax.Array, k: int, stride: int, dilation: int, padding: Padding
) -> jax.Array:
    """`_kernel_gradient` for each set of planes that the same taps meet.

    Plane `stride * m + r` of the padded field meets tap t at output `m - (t * dilation - r) /
    stride`, where that is whole: a plane is read once for all its taps.
    """
    reach = dilation * (k - 1) // 2
    x = pad3d(x, (reach, reach), padding)
    margin = dilation * k  # more planes than any shift
    extended = jnp.pad(cotangent, ((0, 0), (margin, x.shape[1]), *(((0, 0),) * 3)))
    taps_of = [[t for t in range(k) if t * dilation % stride == r] for r in range(stride)]
    gradients = {}
    for residue, taps in enumerate(taps_of):
        if not taps:
            continue
        planes = x[:, residue::stride]
        starts = [margin - (t * dilation - residue) // stride for t in taps]
        stacked = jnp.concatenate(
            [extended[:, start : start + planes.shape[1]] for start in starts], axis=-1
        )  # [B, D_r, H, W, T_r * C_out]
        gradient = _plane_kernel_gradient(planes, stacked, k, stride, dilation, 0)
        gradient = gradient.reshape(k, k, x.shape[-1], len(taps), -1)
        gradients |= {tap: gradient[..., i, :] for i, tap in enumerate(taps)}
    return jnp.stack([gradients[tap] for tap in range(k)])


_FEW_WEIGHTS = 64  # per output channel


def _patch_kernel_gradient(
    x: jax.Array, cotangent: jax.Array, shape: tuple[int, ...], stride: int, dilation: int,
    padding: Padding,
) -> jax.Array:
    """`patches^T cotangent` for few input channels, as the stem has.

    A convolution with one-hot kernels lays the patches side by side, exactly and at the speed of
    oneDNN; XLA's transposes of a field with two channels take longer than the whole product.
    """
    weights = math.prod(shape[:4])
    one_hot = jnp.eye(weights, dtype=x.dtype).reshape(*shape[:4], weights)
    patches = _onednn(x, one_hot, stride, dilation, padding)
    return _long_product(patches, cotangent).reshape(shape)


_ROWS = 2048  # of a chunk: small enough for the second-level cache


def _long_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """[..., I] and [..., O] -> [I, O], summed over the voxels.

    On CPU in chunks: one narrow product over all of them runs at a tenth of the speed.
    """
    rows = x.size // x.shape[-1]
    if jax.default_backend() != "cpu":
        return x.reshape(rows, -1).T @ y.reshape(rows, -1)
    chunks = next(c for c in range(max(rows // _ROWS, 1), 0, -1) if rows % c == 0)
    split = lambda leaf: leaf.reshape(chunks, -1, leaf.shape[-1])  # noqa: E731
    return jnp.einsum("npi,npo->nio", split(x), split(y)).sum(0)


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 1^3 convolution, a matrix product per voxel: [..., C_in] and [C_in, C_out]."""
    return x @ kernel


def _pointwise_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _pointwise_backward(residuals, cotangent):
    x, kernel = residuals
    return cotangent @ kernel.T, _long_product(x, cotangent)


pointwise.defvjp(_pointwise_forward, _pointwise_backward)
