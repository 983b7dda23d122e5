"""Would the seeds of an ablation train faster as one vmapped step than one after the other?

Same batch size for each seed, different states and batches; random densities, since times do not
depend on values. Steps in turn and the vmapped step are timed alternately.

    python -m benchmarks.vmapped_seeds --json=benchmarks/results/vmapped_seeds_cpu.json
"""

import functools
import json
import statistics
import time

import densityjax  # noqa: F401  sets XLA's flags before jax starts

# isort: split
import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks.random_steps import make_batch, make_state, make_task
from densityjax.configs.ablations import paper_cpu
from densityjax.runtime import environment
from densityjax.step import steps

_SEEDS = flags.DEFINE_integer("seeds", 3, "Seeds that train together.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Rounds of A B A B.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps in each timing.")
_JSON = flags.DEFINE_string("json", None, "Write the result here.")


def main(argv: list[str]) -> None:
    """Times both for every implementation of convolutions and prints a line each."""
    del argv
    cases = [measure(name) for name in ("auto", "folded", "lax")]
    content = environment.describe_environment(0) | {"cases": cases}
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(content, file, indent=1)


def measure(implementation: str) -> dict:
    """Seconds per step of all seeds, in turn and vmapped; the ratio of each round."""
    config, count = paper_cpu.get_config().base, _SEEDS.value
    config.model.implementation = implementation
    task = make_task(config)
    states = [make_state(config, task, 32, seed) for seed in range(count)]
    batches = [
        jax.tree.map(lambda leaf: leaf[None], make_batch(config, task, 32, seed))  # [A=1, B, ...]
        for seed in range(count)
    ]
    step = functools.partial(steps.train_step, task=task)
    # The step names the axis over devices; here it has one element.
    alone = jax.jit(lambda state, batch: _on_axis(step, state, batch))
    together = jax.jit(jax.vmap(lambda state, batch: _on_axis(step, state, batch)))
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *t) for t in (states, batches)]

    def in_turn():
        return [alone(state, batch)[1] for state, batch in zip(states, batches)]

    def vmapped():
        return together(*stacked)[1]

    first = [float(metrics["loss"]) for metrics in in_turn()]
    for one, other in zip(first, vmapped()["loss"]):
        assert abs(one - float(other)) < 1e-4 * abs(one), (first, vmapped()["loss"])
    rounds = [(_time(in_turn), _time(vmapped)) for _ in range(_REPEATS.value)]
    result = {
        "implementation": implementation,
        "seeds": count,
        "in_turn_ms": 1e3 * statistics.median(one for one, _ in rounds),
        "vmapped_ms": 1e3 * statistics.median(other for _, other in rounds),
        "ratio_quartiles": statistics.quantiles([other / one for one, other in rounds], n=4),
    }
    print({k: v if isinstance(v, (str, list)) else round(v, 1) for k, v in result.items()})
    return result


def _on_axis(step, state, batch):
    add = functools.partial(jax.tree.map, lambda leaf: leaf[None])
    result = jax.vmap(step, axis_name=steps.AXIS)(add(state), add(batch))
    return jax.tree.map(lambda leaf: leaf[0], result)


def _time(call) -> float:
    started = time.perf_counter()
    for _ in range(_STEPS.value):
        jax.block_until_ready(call())
    return (time.perf_counter() - started) / _STEPS.value


if __name__ == "__main__":
    app.run(main)
