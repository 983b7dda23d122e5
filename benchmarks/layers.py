"""Every layer of the default model: time of forward pass and gradients beside a measured roofline.

Needs no dataset. The layers and their shapes are recorded while the model is traced. Each
convolution is timed in every formulation that can run here; '*' marks the one that 'auto' takes.
The roofline is the larger of two times: operations over the speed of a large matrix product, and
bytes of the arrays, each moved once, over the speed of a copy of about as many bytes (small ones
stay in cache). Both are measured first; copies on CPU with NumPy, which can copy to memory that is
already there. Operations are those whose voxel lies in the field: oneDNN leaves out the zeros
around it, which at 6^3 are up to half of all.

    python -m benchmarks.layers --json=benchmarks/results/layers_cpu.json
    python -m benchmarks.layers --grids=24         # a minute and a half on two CPU cores
"""

import json
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from densityjax.configs import elastic
from densityjax.model import layers, views
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.model.ops import conv3d as conv_op
from densityjax.model.ops import onednn
from densityjax.model.ops.activation import silu
from densityjax.runtime import environment
from densityjax.step.create_task import create_task
from densityjax.targets import get_specs

_GRIDS = flags.DEFINE_list("grids", ["24", "32", "48"], "Edges of the field that enters the trunk.")
_VIEW = flags.DEFINE_enum("view", "cartesian", ["cartesian", "fractional"], "Decides the padding.")
_BATCH = flags.DEFINE_integer("batch", 16, "Examples.")
_FORMULATIONS = flags.DEFINE_list("formulations", ["lax", "folded", "onednn"], "Which to time.")
_SECONDS = flags.DEFINE_float("seconds", 0.2, "Time spent on each measurement, 3 runs at least.")
_JSON = flags.DEFINE_string("json", None, "Write the measurements here.")
DIRECTIONS = ("forward", "input gradient", "kernel gradient")


def median_ms(run: Callable[[], Any]) -> float:
    """Median milliseconds of a call, after an untimed one; slow calls are timed once."""
    start = time.perf_counter()
    run()
    least = 3 if time.perf_counter() - start < 0.5 else 1
    times, end = [], time.perf_counter() + _SECONDS.value
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def time_ms(function: Callable, *arguments: Any) -> float:
    """Milliseconds of a function, compiled."""
    compiled = jax.jit(function).lower(*arguments).compile()
    arguments = jax.device_put(arguments)
    return median_ms(lambda: jax.block_until_ready(compiled(*arguments)))


def measure_product(dtype: jnp.dtype) -> float:
    """GFLOP/s of a large matrix product."""
    edge = 3072 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((edge, edge), dtype)
    return 2 * edge**3 / time_ms(lambda a, b: a @ b, matrix, matrix) / 1e6


def measure_copies() -> dict[int, float]:
    """{bytes read and written: GB/s of the copy}, on all cores."""
    found = {}
    for size in (2**20, 2**22, 2**24, 2**26, 2**28, 2**30):
        if jax.default_backend() == "cpu":
            cores = len(os.sched_getaffinity(0))
            source = [np.ones(size // 8 // cores, np.float32) for _ in range(cores)]
            target = [np.ones_like(part) for part in source]
            repeats = max(2**24 // size, 1)  # a thread's start takes as long as a small copy

            def copy(pair, repeats=repeats):
                for _ in range(repeats):
                    np.copyto(*pair)

            with futures.ThreadPoolExecutor(cores) as pool:
                pairs = list(zip(target, source))
                ms = median_ms(lambda pool=pool, pairs=pairs: list(pool.map(copy, pairs))) / repeats
        else:
            ms = time_ms(lambda a: a + 1, jnp.ones(size // 8, jnp.float32))
        found[size] = size / ms / 1e6
    return found


def copy_speed(copies: dict[int, float], size: int) -> float:
    """GB/s of the measured copy whose size is nearest."""
    return copies[min(copies, key=lambda known: abs(math.log(known / size)))]


def find_layers(view: str, grid: int, batch: int) -> tuple[Counter, Counter, Any]:
    """Records what the default model calls on [B, G, G, G, C].

    Returns:
        ({(input shape, features, kernel size, stride, dilation, padding): calls} of convolutions,
        {(layer's name, input shape): calls} of the others, the task).
    """
    config = elastic.get_config()
    config.view.kind, config.view.size = view, grid
    task = create_task(config, get_specs(config.targets), 1000)
    convolutions, others = Counter(), Counter()

    def note(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, layers.Conv3D):
            key = (args[0].shape, module.features, module.kernel_size, module.stride,
                   module.dilation, module.padding)
            convolutions[key] += 1
        elif context.method_name == "__call__" and isinstance(
            module, (layers.ChannelAttention, layers.SpatialAttention)
        ):
            others[type(module).__name__, args[0].shape] += 1
            if isinstance(module, layers.ChannelAttention):
                others["silu", args[0].shape] += 2
        return call(*args, **kwargs)

    fields = num_fields(config.input.channels, config.input.transform)
    arguments = (
        jnp.zeros((batch, grid, grid, grid, fields)),
        jnp.zeros((batch, NUM_FEATURES[config.input.lattice_features])),
    )
    with nn.intercept_methods(note):
        jax.eval_shape(task.model.init, jax.random.key(0), *arguments)
    last = next(reversed(convolutions))[0]  # [B, g, g, g, *], the resolution that is pooled
    others["mean and maximum", (*last[:4], config.model.widths[-1])] += 1
    return convolutions, others, task


def random(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Normal draws."""
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


def measure_convolution(key: tuple, implementation: str, dtype: jnp.dtype) -> Iterator[dict]:
    """Times the three directions of one convolution: ms, floating-point operations, bytes."""
    shape, features, k, stride, dilation, padding = key

    def convolve(x, kernel):
        return conv_op.conv3d(
            x, kernel, stride=stride, dilation=dilation, padding=padding,
            implementation=implementation,
        )

    x, kernel = random(shape, dtype), random((k, k, k, shape[-1], features), dtype)
    cotangent = random(jax.eval_shape(convolve, x, kernel).shape, dtype)
    functions = {
        "forward": lambda x, kernel, cotangent: convolve(x, kernel),
        "input gradient": lambda x, kernel, cotangent: jax.vjp(
            lambda x: convolve(x, kernel), x
        )[1](cotangent),
        "kernel gradient": lambda x, kernel, cotangent: jax.vjp(
            lambda kernel: convolve(x, kernel), kernel
        )[1](cotangent),
    }
    taps = (np.arange(k) - k // 2) * dilation + np.arange(cotangent.shape[1])[:, None] * stride
    inside = ((taps >= 0) & (taps < shape[1])).sum() if padding == "zero" else taps.size
    operations = 2 * shape[0] * int(inside) ** 3 * shape[-1] * features
    size = x.nbytes + kernel.nbytes + cotangent.nbytes
    for direction in DIRECTIONS:
        ms = time_ms(functions[direction], x, kernel, cotangent)
        yield {"direction": direction, "ms": ms, "flop": operations, "bytes": size}


def measure_other(name: str, shape: tuple, task: Any, dtype: jnp.dtype) -> Iterator[dict]:
    """Times a layer that is bound by memory, forward and gradient."""
    x = random(shape, dtype)
    if name == "silu":
        function = silu
    elif name == "mean and maximum":
        function = lambda x: jnp.concatenate([x.mean((1, 2, 3)), x.max((1, 2, 3))], -1)  # noqa: E731
    elif name == "ChannelAttention":
        module = layers.ChannelAttention(dtype=dtype)
    else:
        module = layers.SpatialAttention(padding=task.model.padding, dtype=dtype)
    if name.endswith("Attention"):
        variables = jax.jit(module.init)(jax.random.key(0), x)
        function = lambda x: module.apply(variables, x)  # noqa: E731
    y = jax.eval_shape(function, x)
    cotangent = random(y.shape, dtype)
    ms = time_ms(function, x)
    yield {"direction": "forward", "ms": ms, "flop": 0, "bytes": x.nbytes + cotangent.nbytes}
    ms = time_ms(lambda x, cotangent: jax.vjp(function, x)[1](cotangent), x, cotangent)
    yield {"direction": "input gradient", "ms": ms, "flop": 0, "bytes": 2 * x.nbytes + cotangent.nbytes}  # noqa: E501


def measure_view(task: Any, grid: int, batch: int) -> dict:
    """Times the random view: densities of 32^3, or of the grid where the view is fractional."""
    stored = grid if task.view.kind == "fractional" else 32
    density = random((batch, stored, stored, stored, 1), jnp.float32)
    lattice = jnp.broadcast_to(6 * jnp.eye(3), (batch, 3, 3))
    keys = jax.random.split(jax.random.key(0), batch)
    view = jax.vmap(lambda *args: views.training_view(task.view, *args))
    ms = time_ms(view, density, lattice, keys)
    size = density.nbytes + jax.eval_shape(view, density, lattice, keys)[0].size * 4
    return {"direction": "forward", "ms": ms, "flop": 0, "bytes": size}


def main(_) -> None:
    """Prints a row per layer, formulation and direction."""
    on_cpu = jax.default_backend() == "cpu"
    dtype = jnp.dtype(jnp.float32 if on_cpu else jnp.bfloat16)
    product, copies = measure_product(dtype), measure_copies()
    speeds = ", ".join(f"{size / 2**20:.0f} MiB {speed:.0f}" for size, speed in copies.items())
    kind = jax.devices()[0].device_kind
    print(f"{kind}, {dtype.name}, batch {_BATCH.value}, {_VIEW.value} view: matrix product "
          f"{product:.0f} GFLOP/s; copies in GB/s by bytes moved: {speeds}")
    formulations = [name for name in _FORMULATIONS.value if name != "onednn" or onednn.available()]
    chosen = conv_op.choose("auto", dtype)
    print(f"'auto' takes '{chosen}' here")
    print("| grid | layer | calls | formulation | direction | ms | GFLOP/s | GB/s | of roofline |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = []

    def report(grid, layer, calls, formulation, row):
        copy = copy_speed(copies, row["bytes"])
        bound = max(row["flop"] / product, row["bytes"] / copy) / 1e6
        result = {"grid": grid, "layer": layer, "calls": calls, "formulation": formulation} | row
        result["gflops"], result["gb_per_s"] = (row[n] / row["ms"] / 1e6 for n in ("flop", "bytes"))
        result["fraction_of_roofline"] = bound / row["ms"]
        results.append(result)
        mark = "*" if formulation == chosen else ""
        print(f"| {grid} | {layer} | {calls} | {formulation}{mark} | {row['direction']} | "
              f"{row['ms']:.2f} | {result['gflops']:.0f} | {result['gb_per_s']:.1f} | "
              f"{result['fraction_of_roofline']:.0%} |", flush=True)

    for grid in map(int, _GRIDS.value):
        convolutions, others, task = find_layers(_VIEW.value, grid, _BATCH.value)
        for key, calls in convolutions.items():
            shape, features, k, stride, dilation, _ = key
            layer = f"conv {shape[1]}^3 x {shape[-1]} -> {features}, {k}^3"
            layer += f", stride {stride}" * (stride > 1) + f", dilation {dilation}" * (dilation > 1)
            # A 1^3 convolution is a matrix product in every formulation.
            for formulation in formulations if k > 1 else [chosen]:
                for row in measure_convolution(key, formulation, dtype):
                    report(grid, layer, calls, formulation, row)
        for (name, shape), calls in others.items():
            layer = f"{name} {shape[1]}^3 x {shape[-1]}"
            for row in measure_other(name, shape, task, dtype):
                report(grid, layer, calls, "-", row)
        report(grid, f"{_VIEW.value} view", 1, "-", measure_view(task, grid, _BATCH.value))
    if _JSON.value:
        content = {"layers": results, "product_gflops": product, "copies_gb_per_s": copies,
                   "auto": chosen, "dtype": dtype.name, "batch": _BATCH.value, "view": _VIEW.value,
                   "environment": environment.describe_environment(0)}
        with open(_JSON.value, "w") as file:
            json.dump(content, file, indent=1)


if __name__ == "__main__":
    app.run(main)
