"""What does it cost to skip an update whose loss or gradient is not finite?

The training step with the choice between new and old state (`steps.update_step`) and without it, on
the same random batch, in turn: A B A B.

    python -m benchmarks.skipped_steps --json=benchmarks/results/skipped_steps_cpu.json
"""

import json
import statistics
import time
from unittest import mock

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks.random_steps import make_batch, make_state, make_task
from densityjax.configs import elastic, smoke
from densityjax.runtime import environment
from densityjax.step import parallel, steps

_REPEATS = flags.DEFINE_integer("repeats", 15, "Rounds of A B.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Of each timing, about.")
_JSON = flags.DEFINE_string("json", None, "Write the result here.")


def main(argv: list[str]) -> None:
    """Prints a line for each config."""
    del argv
    cases = [
        measure("smoke", smoke.get_config(), 24), measure("elastic", elastic.get_config(), 32)
    ]
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(environment.describe_environment(0) | {"cases": cases}, file, indent=1)


def _always_finite(values: jax.Array) -> jax.Array:
    return jnp.ones_like(values, bool)


def measure(name: str, config: ConfigDict, grid: int) -> dict:
    """Seconds per step with and without the choice; the ratio of each round."""
    task = make_task(config)
    (batch,) = parallel.place_ahead([make_batch(config, task, grid, 0)], 1)
    calls = []
    for patched in (False, True):
        step = parallel.TrainStep(task)
        state = parallel.replicate(make_state(config, task, grid, 0))
        # A constant condition: the compiler leaves the choice out.
        finite = _always_finite if patched else jnp.isfinite
        with mock.patch.object(steps.jnp, "isfinite", finite):
            state, metrics = step(state, batch)
        calls.append(_Steps(step, state, batch))
        jax.block_until_ready(metrics)
    with_choice, without = calls
    count = max(1, round(_SECONDS.value / without.time(3)))
    rounds = [(without.time(count), with_choice.time(count)) for _ in range(_REPEATS.value)]
    first, second = (jax.tree.leaves(call.state.params) for call in (without, with_choice))
    result = {
        "config": name,
        "batch_size": config.train.batch_size,
        "parameters": sum(leaf.size for leaf in first),
        "steps_in_each_timing": count,
        "without_ms": 1e3 * statistics.median(one for one, _ in rounds),
        "with_ms": 1e3 * statistics.median(other for _, other in rounds),
        "ratio_quartiles": statistics.quantiles([other / one for one, other in rounds], n=4),
        "finite": all(bool(jnp.isfinite(leaf).all()) for leaf in first + second),
    }
    print(result, flush=True)
    return result


class _Steps:
    def __init__(self, step: parallel.TrainStep, state, batch):
        self._step, self.state, self._batch = step, state, batch

    def time(self, count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            self.state, metrics = self._step(self.state, self._batch)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - started) / count


if __name__ == "__main__":
    app.run(main)
