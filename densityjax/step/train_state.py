"""What a step reads and writes."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from densityjax.model.objectives import Objectives, last_scale
from densityjax.step.compiler_options import COMPILE_FAST, OLD_EMITTERS, compiled, on_cpu

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """Everything that training changes, and the fitted constants that belong to it.

    Attributes:
        step: [] int32, updates done; batches whose loss was not finite made none.
        params: {'model': variables, 'log_variance': [T]}; with objectives their 'decoder', too, and
          a log-variance of each after those of the targets.
        ema_params: exponential moving average of `params`, used in evaluation.
        opt_state: of the optimiser.
        key: random key of the run; a step folds in `step` and each example's id.
        statistics: scalers fitted on training rows, see `densityjax.step.scalers`.
    """

    step: jax.Array
    params: PyTree
    ema_params: PyTree
    opt_state: optax.OptState
    key: jax.Array
    statistics: PyTree


def create_train_state(
    model, tx: optax.GradientTransformation, statistics: PyTree, seed: int, grid: int,
    objectives: Objectives | None = None,
) -> TrainState:
    """Initialises parameters from `seed`.

    Args:
        grid: voxels along an edge of the field that enters the model.
        statistics: pytree of arrays, see `densityjax.step.scalers.Statistics.arrays`.
        objectives: of the task, whose decoder is initialised, too.
    """
    arguments = jax.random.key(seed), statistics
    lowered = _traced_create(model, tx, grid, objectives).lower(*arguments)
    # It runs once, and a random draw per leaf keeps LLVM's optimiser busy for seconds.
    return compiled(lowered, on_cpu(COMPILE_FAST, OLD_EMITTERS))(*arguments)


def train_state_shapes(
    model, tx: optax.GradientTransformation, statistics: PyTree, grid: int,
    objectives: Objectives | None = None,
) -> TrainState:
    """What `create_train_state` returns, as `jax.ShapeDtypeStruct` leaves.

    Args:
        statistics: leaves with shape and dtype.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    return _traced_create(model, tx, grid, objectives).eval_shape(key, statistics)


@functools.lru_cache(maxsize=1)  # so that both functions above trace it once
def _traced_create(
    model, tx: optax.GradientTransformation, grid: int, objectives: Objectives | None
):
    return jax.jit(functools.partial(_create, model, tx, grid, objectives))


def _create(
    model, tx: optax.GradientTransformation, grid: int, objectives: Objectives | None,
    key: jax.Array, statistics: PyTree,
) -> TrainState:
    init_key, run_key = jax.random.split(key)
    channels, features = statistics["field_mean"].shape[0], statistics["feature_mean"].shape[0]
    inputs = jnp.zeros((1, grid, grid, grid, channels)), jnp.zeros((1, features))
    variables = model.init(init_key, *inputs)
    params = {
        "model": variables["params"],
        "log_variance": jnp.zeros(len(model.targets)),
    }
    if objectives is not None:
        scale = last_scale(model, params["model"], *inputs)
        decoder_key = jax.random.fold_in(init_key, 1)
        params["decoder"] = objectives.decoder.init(decoder_key, scale, grid)["params"]
        params["log_variance"] = jnp.zeros(len(model.targets) + len(objectives.names))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: the state is donated, and a buffer may be donated only once.
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
        key=jax.random.key_data(run_key),
        statistics=jax.tree.map(jnp.asarray, statistics),
    )
