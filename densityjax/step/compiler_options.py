"""Options of XLA's CPU compiler that spare its time; docs/performance.md has the measurements."""

import os
from typing import Any

import jax

Options = dict[str, Any]
# At level 3, the default, the compiler takes a quarter longer for what runs no faster (a hyperbolic
# tangent alone runs 6 times as long); at 0 it takes half the time, and networks that predict run 3
# times as long.
COMPILE_FAST: Options = {"xla_backend_optimization_level": 0}
COMPILE_LESS: Options = {"xla_backend_optimization_level": 2}
# Without its newer emitters the compiler takes three quarters of the time for networks, whose
# convolutions are oneDNN's, and they run as fast; for updates of many parameters twice the time.
OLD_EMITTERS: Options = {"xla_cpu_use_fusion_emitters": False}
# The compiler drops the barriers of a checkpoint before its last search for equal values, which
# then finds what should be computed again: nothing would be freed. Without this pass it does.
KEEP_BARRIERS: Options = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def on_cpu(*options: Options) -> Options:
    """All of them on a CPU, none elsewhere; what the user set in XLA_FLAGS stays as it is.

    Whoever disables passes there has to disable that of `KEEP_BARRIERS`, too, for remat's sake.
    """
    if jax.default_backend() != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    return {k: v for own in options for k, v in own.items() if f"--{k}" not in flags}


def compiled(lowered: jax.stages.Lowered, options: Options) -> jax.stages.Compiled:
    """With options, but for the emitters where a release of XLA (0.12) has no choice of them."""
    try:
        return lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error) or not OLD_EMITTERS.keys() <= options.keys():
            raise
    return lowered.compile({k: v for k, v in options.items() if k not in OLD_EMITTERS})
