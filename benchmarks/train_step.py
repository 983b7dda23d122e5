"""The training step beside the same step in PyTorch and with plain `lax` convolutions.

Needs no dataset: densities are random, labels and cells too; times do not depend on values. Checks
first that both frameworks give the same loss and gradients on the same parameters, then times whole
steps in turn (A B A B): view, forward, loss, gradients, clipping, AdamW, moving average.

    pip install -e '.[benchmark]'
    python -m benchmarks.train_step --json=benchmarks/results/train_step_cpu.json
    python -m benchmarks.train_step --backend=gpu --json=benchmarks/results/train_step_gpu.json
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
import torch
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks.torch_msa3dcnn import LAYOUTS, TorchStep
from densityjax.configs import elastic
from densityjax.model import losses
from densityjax.runtime import environment
from densityjax.step import parallel, steps
from densityjax.step.create_task import create_task
from densityjax.step.task import Task
from densityjax.step.train_state import create_train_state
from densityjax.targets import get_specs

_GRIDS = flags.DEFINE_list("grids", ["24", "32", "48"], "Edges of the field that enters the trunk.")
_VIEWS = flags.DEFINE_list("views", ["cartesian", "fractional"], "Views.")
_BACKEND = flags.DEFINE_enum("backend", "cpu", ["cpu", "gpu"], "Where both frameworks run.")
_BATCH = flags.DEFINE_integer("batch", 16, "Examples per step.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Rounds of A B A B; each times two steps of each.")
_PLAIN = flags.DEFINE_bool("plain", True, "Time plain lax convolutions too.")
_JSON = flags.DEFINE_string("json", None, "Write the cases here.")
TOLERANCE = 1e-4


def make_config(view: str, grid: int, batch: int, backend: str) -> ConfigDict:
    """The default config with the view and grid of a case."""
    config = elastic.get_config()
    config.unlock()
    config.view.kind, config.view.size = view, grid
    config.train.batch_size = batch
    config.model.dtype = "float32" if backend == "cpu" else "bfloat16"
    return config


def make_batch(config: ConfigDict, grid: int) -> dict[str, np.ndarray]:
    """A host batch [B, ...] of random densities in cells of 4 to 8 Å, a tenth of labels missing."""
    rng, size = np.random.default_rng(0), config.train.batch_size
    stored = grid if config.view.kind == "fractional" else 32
    lattice = np.eye(3) * rng.uniform(4, 8, (size, 1, 1)) + rng.uniform(-1, 1, (size, 3, 3))
    shape = (size, len(config.targets))
    return {
        "density": rng.gamma(0.5, 0.5, (size, stored, stored, stored, 1)).astype(np.float32),
        "lattice": lattice.astype(np.float32),
        "num_electrons": rng.uniform(8, 80, size).astype(np.float32),
        "descriptors": np.zeros((size, 0), np.float32),
        "index": np.arange(size, dtype=np.int32),
        "labels": rng.normal(size=shape).astype(np.float32),
        "mask": (rng.random(shape) < 0.9).astype(np.float32),
    }


def make_task(config: ConfigDict, implementation: str = "auto") -> Task:
    """The task of a case."""
    config = ConfigDict(config)
    config.model.implementation = implementation
    return create_task(config, get_specs(config.targets), 1000)


def make_state(task: Task, config: ConfigDict, grid: int) -> Any:
    """A fresh state with plausible statistics."""
    constants = {
        "field_mean": np.array([-2.0, 0.3], np.float32),
        "field_std": np.array([1.5, 0.5], np.float32),
        "feature_mean": np.array([1.0], np.float32),
        "feature_std": np.array([0.5], np.float32),
        "class_weights": {},
    }
    return create_train_state(task.model, task.tx, constants, config.seed, grid)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Norm of the difference as a fraction of the norm: one leaf's relative error in float32."""
    ours, theirs = (np.asarray(leaf, np.float64).ravel() for leaf in (ours, theirs))
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-12))


def check_equal(
    task: Task, state: Any, batch: dict[str, np.ndarray], reference: TorchStep, grid: int
) -> dict[str, float]:
    """Relative differences of the loss, the whole gradient and its worst leaf, on one field."""
    rng = np.random.default_rng(1)
    field = rng.gamma(0.5, 0.5, (len(batch["index"]), *(grid,) * 3, 1)).astype(np.float32)

    def loss_fn(params):
        outputs, _ = steps.apply_model(
            task, params, state.statistics, field, batch["lattice"], batch["num_electrons"],
            batch["descriptors"],
        )
        sums = losses.example_losses(
            outputs, batch["labels"], batch["mask"], {}, task.specs, task.loss
        ).sum(0)
        return (sums / batch["mask"].sum(0)).mean()

    loss, gradient = jax.jit(jax.value_and_grad(loss_fn))(state.params)
    tensors = reference.put(batch)
    moved = torch.from_numpy(field).permute(0, 4, 1, 2, 3).to(reference.device)
    torch_loss = reference.loss(reference.field(moved), tensors)
    torch_loss.backward()
    pairs = reference.model.pairs(jax.device_get(gradient["model"]), task.model.targets)
    pairs = [(np.asarray(leaf), p.grad.cpu().numpy()) for p, leaf in pairs]
    every = [np.concatenate([leaf.ravel() for leaf in side]) for side in zip(*pairs)]
    return {
        "loss": relative_error(np.asarray(loss), torch_loss.detach().cpu().numpy()),
        "gradient": relative_error(*every),
        # Reported, not required: where millions of terms nearly cancel (the one number of a
        # spatial gate's bias), float32 keeps four digits.
        "worst_leaf": max(relative_error(a, b) for a, b in pairs),
    }


def ours(task: Task, state: Any, batch: dict[str, np.ndarray]) -> Callable[[], None]:
    """A function that runs one mapped training step to its end."""
    devices = tuple(jax.local_devices()[:1])
    mapped = parallel.mapped_train_step(task, devices)
    held = {"state": parallel.replicate(jax.tree.map(np.array, state), devices)}
    split = jax.device_put(parallel.split_batch(batch, 1, devices))

    def run() -> None:
        held["state"], metrics = mapped(held["state"], split)
        jax.block_until_ready((held["state"], metrics))

    return run


def theirs(reference: TorchStep, batch: dict[str, np.ndarray]) -> Callable[[], None]:
    """A function that runs one PyTorch step to its end."""
    tensors = reference.put(batch)

    def run() -> None:
        reference(tensors)
        if reference.device == "cuda":
            torch.cuda.synchronize()

    return run


def time_in_turn(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds per step of each function, in turn, `repeats` times.

    Every turn starts with an untimed step, which takes back the caches and lets the threads of the
    other framework fall asleep.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            run()
            for _ in range(2):
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def run_case(view: str, grid: int) -> dict[str, Any]:
    """Checks and times one case."""
    backend = _BACKEND.value
    config = make_config(view, grid, _BATCH.value, backend)
    batch, task = make_batch(config, grid), make_task(config)
    state = make_state(task, config, grid)
    params = jax.device_get(state.params["model"])
    device = "cpu" if backend == "cpu" else "cuda"
    references = {
        layout: TorchStep(task, params, state.statistics, config.optimizer, layout, device)
        for layout in LAYOUTS
    }
    exact = make_task(make_config(view, grid, _BATCH.value, "cpu"))
    # TensorFloat-32, the default of both on GPU, rounds to 1e-3.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with jax.default_matmul_precision("highest"):
        errors = check_equal(exact, state, batch, references["channels_last_3d"], grid)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    if max(errors["loss"], errors["gradient"]) > TOLERANCE:
        raise SystemExit(f"{view} {grid}: the two models differ: {errors}")
    runs = {"ours": ours(task, state, batch)}
    if backend == "gpu":
        references = {
            f"{layout} compiled": TorchStep(
                task, params, state.statistics, config.optimizer, layout, device,
                torch.bfloat16, compiled=True,
            )
            for layout in LAYOUTS
        }
    runs |= {name: theirs(reference, batch) for name, reference in references.items()}
    for run in runs.values():
        run()  # compiles
    times = time_in_turn(runs, _REPEATS.value)
    if _PLAIN.value:  # in its own turns, few of them: it takes seconds
        plain = {"ours": runs["ours"], "plain_lax": ours(make_task(config, "lax"), state, batch)}
        plain["plain_lax"]()
        plain_times = time_in_turn(plain, 2)
        times["plain_lax"] = plain_times["plain_lax"]
        faster = np.asarray(plain_times["plain_lax"]) / np.asarray(plain_times["ours"])
    median = {name: statistics.median(values) for name, values in times.items()}
    best = min(references, key=median.get)
    ratios = np.asarray(times["ours"]) / np.asarray(times[best])
    case = {
        "backend": backend,
        "view": view,
        "grid": grid,
        "batch": _BATCH.value,
        "dtype": config.model.dtype,
        "ours_ms": round(median["ours"], 2),
        "torch_ms": round(median[best], 2),
        "plain_lax_ms": round(median["plain_lax"], 2) if _PLAIN.value else None,
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_quartiles": [round(float(q), 3) for q in np.quantile(ratios, (0.25, 0.75))],
        "torch_layout": best,
        "torch_layouts_ms": {name: round(median[name], 2) for name in references},
        "relative_error": errors,
    }
    if _PLAIN.value:
        case["times_faster_than_plain_lax"] = round(float(np.median(faster)), 2)
    return case


def main(_) -> None:
    """Prints a row per case."""
    if _BACKEND.value == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif not (torch.cuda.is_available() and jax.default_backend() == "gpu"):
        raise SystemExit("not run: PyTorch and JAX do not both see a GPU here")
    cases = []
    print("| view | grid | ours ms | PyTorch ms (layout) | ratio (quartiles) | plain lax ms | loss, gradient error |")  # noqa: E501
    print("|---|---|---|---|---|---|---|")
    for view in _VIEWS.value:
        for grid in map(int, _GRIDS.value):
            case = run_case(view, grid)
            cases.append(case)
            low, high = case["ratio_quartiles"]
            print(
                f"| {view} | {grid} | {case['ours_ms']} | {case['torch_ms']} "
                f"({case['torch_layout']}) | {case['ratio']} ({low} to {high}) | "
                f"{case['plain_lax_ms']} | {case['relative_error']['loss']:.0e}, "
                f"{case['relative_error']['gradient']:.0e} |",
                flush=True,
            )
        _write(cases)  # after every view: the rest can fail


def _write(cases: list[dict[str, Any]]) -> None:
    if _JSON.value:
        content = {"cases": cases, "environment": environment.describe_environment(0)}
        content["environment"]["torch"] = torch.__version__
        with open(_JSON.value, "w") as file:
            json.dump(content, file, indent=1)


if __name__ == "__main__":
    app.run(main)
