"""Memory and time of a training step on large grids, with and without rematerialisation.

Needs no dataset: the density is random. Each case runs in a process of its own, since the peak of
resident memory belongs to a process: two steps of `parallel.mapped_train_step` at batch 1 up to
`--run_grids`, and above that the memory that XLA's compiler plans for the same step from shapes
alone. A case that plans more than `--limit_gib` is not run.

    python -m benchmarks.large_grids --json=benchmarks/results/large_grids_cpu.json
"""

import json
import resource
import subprocess
import sys
import time

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from densityjax.configs import elastic, paper_nonmagnetic
from densityjax.model.field import num_fields
from densityjax.model.lattice_features import NUM_FEATURES
from densityjax.runtime import environment
from densityjax.step import parallel
from densityjax.step.create_task import create_task
from densityjax.step.train_state import create_train_state
from densityjax.targets import get_specs

MODELS = {"default": elastic, "paper": paper_nonmagnetic}
_MODELS = flags.DEFINE_list("models", list(MODELS), "Configs: default (elastic.py), paper.")
_VIEWS = flags.DEFINE_list("views", ["fractional", "cartesian"], "Views.")
_RUN = flags.DEFINE_list("run_grids", ["128"], "Edges at which steps are run.")
_PLAN = flags.DEFINE_list("plan_grids", ["192"], "Edges at which memory is planned alone.")
_STEM_STRIDES = flags.DEFINE_list("stem_strides", ["2"], "2 as in the configs; others plan alone.")
_LIMIT = flags.DEFINE_float("limit_gib", 16.0, "Cases that plan more are not run.")
_JSON = flags.DEFINE_string("json", None, "Write the cases here.")
_CASE = flags.DEFINE_string("case", None, "One case as JSON, in this process (used internally).")
GPU_GB = (80, 141)


def make_config(case: dict) -> ConfigDict:
    """The config of a case."""
    config = MODELS[case["model"]].get_config().unlock()
    config.view.kind, config.view.size = case["view"], case["grid"]
    config.model.remat, config.model.stem_stride = case["remat"], case["stem_stride"]
    config.train.batch_size = 1
    return config


def make_batch(config: ConfigDict, grid: int) -> dict[str, np.ndarray]:
    """One random density [1, G, G, G, C] e/Å^3 in a cell of 6 Å."""
    rng, targets = np.random.default_rng(0), len(config.targets)
    shape = (1, grid, grid, grid, config.input.channels)
    return {
        "density": rng.gamma(0.5, 0.5, shape).astype(np.float32),
        "lattice": 6 * np.eye(3, dtype=np.float32)[None],
        "num_electrons": np.full(1, 40, np.float32),
        "descriptors": np.zeros((1, 0), np.float32),
        "index": np.zeros(1, np.int32),
        "labels": rng.normal(size=(1, targets)).astype(np.float32),
        "mask": np.ones((1, targets), np.float32),
    }


def resident_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(case: dict) -> dict:
    """Plans a case and, where it says so and memory allows, runs two steps."""
    config, devices = make_config(case), tuple(jax.local_devices()[:1])
    task = create_task(config, get_specs(config.targets), 1000)
    fields = num_fields(config.input.channels, config.input.transform)
    features = NUM_FEATURES[config.input.lattice_features]
    statistics = {
        "field_mean": np.zeros(fields, np.float32),
        "field_std": np.ones(fields, np.float32),
        "feature_mean": np.zeros(features, np.float32),
        "feature_std": np.ones(features, np.float32),
        "class_weights": {},
    }
    # Parameters do not depend on the grid, so a small one makes them.
    fresh = create_train_state(task.model, task.tx, statistics, config.seed, 32)
    state = parallel.replicate(jax.tree.map(np.array, fresh), devices)
    batch = parallel.split_batch(make_batch(config, 8), 1, devices)
    shape = (1, 1, 1, *(case["grid"],) * 3, config.input.channels)
    shapes = batch | {"density": jax.ShapeDtypeStruct(shape, np.float32)}
    step = parallel.mapped_train_step(task, devices)
    start = time.perf_counter()
    plans = [program.memory_analysis() for program in step.compile(state, shapes)]
    result = case | {
        "compile_s": round(time.perf_counter() - start, 1),
        "planned_gib": round(max(plan.temp_size_in_bytes for plan in plans) / 2**30, 3),
    }
    if not case["run"] or result["planned_gib"] > _LIMIT.value:
        return result
    result["resident_before_gib"] = round(resident_gib(), 3)
    batch = parallel.split_batch(make_batch(config, case["grid"]), 1, devices)
    times = []
    for _ in range(3):  # the first one warms up
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        times.append((time.perf_counter() - start) * 1e3)
    if not np.isfinite(float(metrics["loss"])):
        raise SystemExit(f"the loss is {metrics['loss']}")
    return result | {
        "step_ms": [round(t) for t in times[1:]],
        "resident_peak_gib": round(resident_gib(), 3),
        "loss": float(metrics["loss"]),
    }


def list_cases() -> list[dict]:
    """Cases of the flags."""
    return [
        {"model": model, "view": view, "grid": int(grid), "stem_stride": int(stride),
         "remat": remat, "run": grid in _RUN.value and stride == "2"}
        for model in _MODELS.value
        for view in _VIEWS.value
        for grid in (*_RUN.value, *_PLAN.value)
        for stride in _STEM_STRIDES.value
        for remat in (False, True)
    ]


def main(_) -> None:
    """Prints a row per case."""
    if _CASE.value:
        print(json.dumps(measure(json.loads(_CASE.value))))
        return
    results = []
    print("| model | view | grid | stem stride | remat | planned GiB | peak resident GiB | ms per step | batch in 80, 141 GB (estimate) |")  # noqa: E501
    print("|---|---|---|---|---|---|---|---|---|")
    for case in list_cases():
        command = [sys.executable, "-m", "benchmarks.large_grids", f"--case={json.dumps(case)}",
                   f"--limit_gib={_LIMIT.value}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        # Estimates: of this backend's plan, in float32, with a tenth of the memory left free.
        result["batch_estimate"] = {
            str(gb): int(0.9 * gb * 1e9 / (result["planned_gib"] * 2**30)) for gb in GPU_GB
        }
        results.append(result)
        times = " and ".join(map(str, result.get("step_ms", []))) or "-"
        print(
            f"| {case['model']} | {case['view']} | {case['grid']} | {case['stem_stride']} | "
            f"{'yes' if case['remat'] else 'no'} | {result['planned_gib']:.2f} | "
            f"{result.get('resident_peak_gib', '-')} | {times} | "
            f"{', '.join(map(str, result['batch_estimate'].values()))} |",
            flush=True,
        )
        if _JSON.value:
            with open(_JSON.value, "w") as file:
                content = {"cases": results, "environment": environment.describe_environment(0)}
                json.dump(content, file, indent=1)


if __name__ == "__main__":
    app.run(main)
