"""Memory and time of the autoencoder of configs/ecd at batch 1: a training step, the encoder alone.

Needs no dataset: the density is random. Each case runs in a process of its own, since the peak of
resident memory belongs to a process.

    python -m benchmarks.ecd_grids --json=docs/results/ecd/grids.json
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import numpy as np

from benchmarks.large_grids import make_batch, resident_gib
from densityjax.configs.ecd import autoencoder
from densityjax.runtime import environment
from densityjax.runtime.files import replace_json
from densityjax.step import parallel
from densityjax.step.create_task import create_task
from densityjax.step.encoder import make_encoder
from densityjax.step.train_state import create_train_state

GRIDS, KINDS, REPEATS = (48, 64, 128), ("train_step", "encoder"), 3


def _timed(call: Any) -> dict[str, list[float]]:
    """Seconds of each of some calls, after one that compiles; of the clock, and of all cores."""
    jax.block_until_ready(call())
    found: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    for _ in range(REPEATS):
        start, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        found["seconds"].append(round(time.perf_counter() - start, 3))
        found["cpu_seconds"].append(round(time.process_time() - used, 3))
    return found


def measure(grid: int, kind: str) -> dict[str, Any]:
    """A case in this process."""
    config = autoencoder.get_config()
    config.targets, config.train.batch_size = (), 1
    task = create_task(config, (), 1000)
    statistics = {
        "field_mean": np.zeros(1, np.float32), "field_std": np.ones(1, np.float32),
        "feature_mean": np.zeros(1, np.float32), "feature_std": np.ones(1, np.float32),
        "class_weights": {},
    }
    devices = tuple(jax.local_devices()[:1])
    state = create_train_state(task.model, task.tx, statistics, 0, 16, task.objectives)
    batch = make_batch(config, grid)
    if kind == "encoder":
        encoder = make_encoder(
            state.params["model"], statistics["field_mean"], statistics["field_std"],
            {"grid": grid, "channels": 1, "core": "all", "transform": "log", "log_clamp": 1e-3,
             "model": {"widths": [16, 32, 32], "latent": 16}}, {},
        )
        before = resident_gib()
        times = _timed(lambda: encoder.encode(batch["density"], [216.0]))
    else:
        batch |= {
            "labels": np.zeros((1, 1), np.float32), "mask": np.ones((1, 1), np.float32),
            "voxels": np.zeros((1, grid, grid, grid, 0), np.float32),
            "view": np.zeros((1, 0), np.float32),
        }
        step = parallel.mapped_train_step(task, devices)
        placed = parallel.split_batch(batch, 1, devices)
        held = [parallel.replicate(jax.tree.map(np.array, state), devices)]
        before = resident_gib()

        def once() -> Any:
            held[0], metrics = step(held[0], placed)
            return metrics

        times = _timed(once)
    return {
        "grid": grid, "kind": kind, **times,
        "resident_before_gib": round(before, 3), "resident_peak_gib": round(resident_gib(), 3),
    }


def main() -> None:
    """Prints a row per case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", nargs=2, help="one case, in this process (used internally)")
    parser.add_argument("--grids", type=int, nargs="*", default=GRIDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(int(arguments.case[0]), arguments.case[1])))
        return
    cases = []
    print("| grid | what | s | CPU s | peak resident GiB |\n| --- | --- | --- | --- | --- |")
    for grid in arguments.grids:
        for kind in KINDS:
            command = [sys.executable, "-m", "benchmarks.ecd_grids", "--case", str(grid), kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            case = json.loads(done.stdout.splitlines()[-1])
            cases.append(case)
            print(
                f"| {grid} | {kind} | {min(case['seconds'])} | {min(case['cpu_seconds'])} | "
                f"{case['resident_peak_gib']} |", flush=True,
            )
            if arguments.json:
                replace_json(arguments.json, {
                    "cases": cases, "environment": environment.describe_environment(0),
                })


if __name__ == "__main__":
    main()
