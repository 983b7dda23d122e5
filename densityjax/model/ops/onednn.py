"""XLA's oneDNN convolution on CPU, called by its name in XLA's runtime.

jaxlib's CPU wheels carry oneDNN and the operation that runs its convolutions, but their compiler
does not choose it (in 0.10 the pass is switched off whenever it compiles ahead of time, which it
always does). Calling the operation directly is 2 to 7 times faster than what the compiler makes of
a 3D convolution in two dimensions, and as fast as PyTorch, which uses the same library. The name is
private to XLA, so it is called only on the releases on which the tests passed.
"""

import json
import platform
from importlib import metadata

import jax

_TARGET = "__onednn$convolution"
TESTED_JAXLIB = ("0.10.2", "0.11.2", "0.12.0.1")


def available() -> bool:
    """Whether this process can call it: CPU backend, x86-64, a jaxlib on which it was tried."""
    return (
        metadata.version("jaxlib") in TESTED_JAXLIB
        and platform.machine() == "x86_64"
        and jax.default_backend() == "cpu"
    )


def _dims(rank: int, **axes: int) -> dict:
    first = 0 if "input_feature_dim" in axes else 1
    spatial = [str(first + axis) for axis in range(rank - 2)]
    return {name: str(axis) for name, axis in axes.items()} | {"spatial_dims": spatial}


def convolution(
    x: jax.Array, kernel: jax.Array, *, stride: int, dilation: int, padding: int
) -> jax.Array:
    """Cross-correlation in three dimensions with zeros around the field.

    Args:
        x: [B, X, Y, Z, C_in] float32.
        kernel: [k, l, m, C_in, C_out] float32.
        padding: zeros on each side of the three axes.

    Returns:
        [B, X', Y', Z', C_out] float32, X' = (X + 2 padding - dilation (k - 1) - 1) // stride + 1.
    """
    rank = x.ndim
    sizes = [
        (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
        for size, taps in zip(x.shape[1:-1], kernel.shape[:-2], strict=True)
    ]
    shape = (x.shape[0], *sizes, kernel.shape[-1])
    # oneDNN ends the process on sizes that it cannot take, so they are refused here.
    if min(shape) < 1 or min(x.shape) < 1 or x.dtype != "float32" or kernel.dtype != "float32":
        raise ValueError(f"no oneDNN convolution of {x.dtype}{x.shape} with {kernel.shape}")
    field = {"dims": str(rank), "data": _dims(rank, batch_dim=0, feature_dim=rank - 1)}
    taps = _dims(rank, input_feature_dim=rank - 2, output_feature_dim=rank - 1)
    window = {
        "strides": stride, "pad_left": padding, "pad_right": padding, "window_dilations": dilation,
    }
    config = {
        "dims": str(rank),
        "input": field,
        "kernel": {"dims": str(rank), "filter": taps},
        "output": field,
        "window": {name: [str(value)] * (rank - 2) for name, value in window.items()},
        "feature_groups": "1",
    }
    call = jax.ffi.ffi_call(
        _TARGET, jax.ShapeDtypeStruct(shape, x.dtype), vmap_method="sequential",
        custom_call_api_version=2,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )
    return call(x, kernel)
